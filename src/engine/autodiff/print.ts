/** The printed form of a graph: one line per node, for snapshots and for people. */
import { formatShape } from './dim.ts';
import type { Graph, Value } from './graph.ts';

function reference(value: Value): string {
  if (value.source.kind !== 'constant') return value.source.kind === 'node' ? `%${value.id}` : value.name;
  const { tensor } = value.source;
  return tensor.data.length === 1 ? String(tensor.data[0]) : `constant${formatShape(tensor.shape)}`;
}

function attributesOf(attributes: unknown): string {
  if (typeof attributes !== 'object' || attributes === null) return '';
  const entries = Object.entries(attributes).filter(([, value]) => value !== undefined && value !== false);
  return entries.length === 0
    ? ''
    : ` {${entries.map(([key, value]) => `${key}: ${JSON.stringify(value)}`).join(', ')}}`;
}

/** Nodes in order: `%7 = Gemm(x, w) {transB: true} : float32[B, 4]`. */
export function printGraph(graph: Graph): string {
  return graph.nodes
    .map((node) => {
      const outputs = node.outputs.map((output) => `%${output.id}`).join(', ');
      const types = node.outputs.map((output) => `${output.dtype}${formatShape(output.shape)}`).join(', ');
      const inputs = node.inputs.map(reference).join(', ');
      return `${outputs} = ${node.operator.type}(${inputs})${attributesOf(node.attributes)} : ${types}`;
    })
    .join('\n');
}
