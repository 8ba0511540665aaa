/** The graph of a plan as text, Mermaid or Graphviz. Pure. */
import type { Plan, PlannedStage } from './types.ts';

export const GRAPH_FORMATS = ['text', 'mermaid', 'dot'] as const;
export type GraphFormat = (typeof GRAPH_FORMATS)[number];

interface Node {
  readonly id: string;
  readonly label: string;
  readonly kind: string;
}

interface Edge {
  readonly from: string;
  readonly to: string;
  /** Names of the outputs that are handed over; none for an edge of `needs`, `if` or `expect`. */
  readonly outputs: readonly string[];
}

/** @param showCells each cell of a matrix by itself instead of one node for all */
export function drawGraph(plan: Plan, format: GraphFormat, showCells = false): string[] {
  const { nodes, edges } = graphToDraw(plan, showCells);
  switch (format) {
    case 'text':
      return textLines(nodes, edges);
    case 'mermaid':
      return mermaidLines(nodes, edges);
    case 'dot':
      return dotLines(plan.pipeline.name, nodes, edges);
    default:
      throw new TypeError(`unknown format ${format satisfies never}`);
  }
}

function graphToDraw(plan: Plan, showCells: boolean): { nodes: readonly Node[]; edges: readonly Edge[] } {
  const idOf = (stage: PlannedStage) => (showCells ? stage.name : stage.group);
  const ids = new Map(plan.order.map((stage) => [stage.name, idOf(stage)]));
  const cells = new Map<string, number>();
  for (const id of ids.values()) cells.set(id, (cells.get(id) ?? 0) + 1);
  const nodes = new Map<string, Node>();
  const edges = new Map<string, { from: string; to: string; outputs: Set<string> }>();
  for (const stage of plan.order) {
    const id = idOf(stage);
    const count = cells.get(id)!;
    nodes.set(id, { id, label: count > 1 ? `${id} (${count} cells)` : id, kind: stage.definition.kind });
    const outputsOf = new Map<string, string[]>();
    for (const { source } of stage.inputs) {
      if (source.kind !== 'artifact-ref') continue;
      const list = outputsOf.get(source.stage);
      if (list === undefined) outputsOf.set(source.stage, [source.output]);
      else list.push(source.output);
    }
    for (const dependency of stage.dependencies) {
      const from = ids.get(dependency)!;
      const edge = edges.get(`${from}\0${id}`) ?? { from, to: id, outputs: new Set() };
      for (const output of outputsOf.get(dependency) ?? []) edge.outputs.add(output);
      edges.set(`${from}\0${id}`, edge);
    }
  }
  const list = [...edges.values()].map(({ from, to, outputs }) => ({ from, to, outputs: [...outputs].sort() }));
  return { nodes: [...nodes.values()], edges: list };
}

/** Each stage behind what it waits for. */
function textLines(nodes: readonly Node[], edges: readonly Edge[]): string[] {
  const width = Math.max(0, ...nodes.map(({ label }) => label.length));
  const kindWidth = Math.max(0, ...nodes.map(({ kind }) => kind.length));
  const into = new Map<string, string[]>();
  for (const { from, to, outputs } of edges) {
    const text = outputs.length === 0 ? `after ${from}` : `${from}.${outputs.join(`, ${from}.`)}`;
    const list = into.get(to);
    if (list === undefined) into.set(to, [text]);
    else list.push(text);
  }
  return nodes.map(({ id, label, kind }) => {
    const from = into.get(id);
    const line = `${label.padEnd(width)}  ${kind.padEnd(kindWidth)}`;
    return from === undefined ? line.trimEnd() : `${line}  <- ${from.join(', ')}`;
  });
}

function mermaidLines(nodes: readonly Node[], edges: readonly Edge[]): string[] {
  const names = new Map(nodes.map(({ id }, i) => [id, `s${i}`]));
  const text = (value: string) => value.replaceAll('"', '#quot;');
  return [
    'flowchart LR',
    ...nodes.map(({ id, label, kind }) => `  ${names.get(id)}["${text(label)}<br/>${text(kind)}"]`),
    ...edges.map(({ from, to, outputs }) => {
      const arrow = outputs.length === 0 ? '-.->' : `-->|"${text(outputs.join(', '))}"|`;
      return `  ${names.get(from)} ${arrow} ${names.get(to)}`;
    }),
  ];
}

function dotLines(name: string, nodes: readonly Node[], edges: readonly Edge[]): string[] {
  const text = (value: string) => `"${value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', ' ')}"`;
  return [
    `digraph ${text(name)} {`,
    '  rankdir=LR;',
    '  node [shape=box];',
    ...nodes.map(({ id, label, kind }) => `  ${text(id)} [label=${text(`${label}: ${kind}`)}];`),
    ...edges.map(({ from, to, outputs }) => {
      const style = outputs.length === 0 ? 'style=dashed' : `label=${text(outputs.join(', '))}`;
      return `  ${text(from)} -> ${text(to)} [${style}];`;
    }),
    '}',
  ];
}
