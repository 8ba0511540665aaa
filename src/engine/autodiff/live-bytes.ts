/**
 * How much memory running a graph takes beyond its feeds and its outputs, whose memory is the caller's: the largest sum of
 * values that are alive at the same time. A model of what onnxruntime does on the CPU: weights that are widened are widened
 * first of all, and reshaped values are their source. Elementwise operators could write over their inputs, but do so only where
 * onnxruntime knows that shapes are alike, and behind a Reshape, or with sizes such as `B*T`, it knows none.
 */
import { BYTES_PER_ELEMENT } from '../tensor.ts';
import { evaluateDim } from './dim.ts';
import type { Graph, Node, Value } from './graph.ts';

export type Outputs = Readonly<Record<string, Value>>;

export function peakLiveBytes(graph: Graph, outputs: Outputs, sizes: ReadonlyMap<string, number>): number {
  const nodes = inOrder(graph, Object.values(outputs));
  const given = new Set(Object.values(outputs));
  const bytesOf = (value: Value) => (given.has(value) ? 0 : valueBytes(value, sizes));
  /** The value whose memory a value is. */
  const memory = new Map<Value, Value>();
  const rootOf = (value: Value): Value => memory.get(value) ?? value;
  const lastUse = new Map<Value, number>();
  nodes.forEach((node, at) => {
    if (node.operator.type === 'Reshape' && !given.has(node.outputs[0]!)) {
      memory.set(node.outputs[0]!, rootOf(node.inputs[0]!));
    }
    for (const value of [...node.inputs, ...node.outputs]) lastUse.set(rootOf(value), at);
  });

  const alive = new Map<Value, number>();
  let now = 0;
  let peak = 0;
  nodes.forEach((node, at) => {
    for (const output of node.outputs) {
      if (memory.has(output)) continue;
      const bytes = bytesOf(output);
      alive.set(output, bytes);
      now += bytes;
    }
    peak = Math.max(peak, now + bytesInside(node, sizes));
    for (const value of new Set([...node.inputs, ...node.outputs].map(rootOf))) {
      if (lastUse.get(value) !== at) continue;
      now -= alive.get(value) ?? 0;
      alive.delete(value);
    }
  });
  return peak;
}

/** What the kernels of one node hold between them. */
function bytesInside({ operator, inputs, outputs }: Node, sizes: ReadonlyMap<string, number>): number {
  // A row of zeros is put behind the data first.
  if (operator.type === 'GatherRows') return valueBytes(inputs[0]!, sizes);
  // A hash, and what is kept as 0 and 1.
  if (operator.type === 'DropoutMask') return valueBytes(outputs[0]!, sizes);
  return 0;
}

export function valueBytes(value: Value, sizes: ReadonlyMap<string, number>): number {
  return value.shape.reduce<number>((bytes, dim) => bytes * evaluateDim(dim, sizes), BYTES_PER_ELEMENT[value.dtype]);
}

/** The nodes that the outputs need, those that widen a weight first. */
function inOrder(graph: Graph, outputs: readonly Value[]): Node[] {
  const needed = new Set<Value>(outputs);
  const nodes: Node[] = [];
  for (const node of [...graph.nodes].reverse()) {
    if (!node.outputs.some((output) => needed.has(output))) continue;
    nodes.push(node);
    for (const input of node.inputs) needed.add(input);
  }
  nodes.reverse();
  const widens = (node: Node) => node.operator.type === 'Cast' && node.inputs[0]!.source.kind === 'parameter';
  return [...nodes.filter(widens), ...nodes.filter((node) => !widens(node))];
}
