/** Memory inside the pieces of a model that runs layer by layer (segments.ts), beside their feeds and outputs. */
import { pullBack } from '../../autodiff/backward.ts';
import type { Value } from '../../autodiff/graph.ts';
import { peakLiveBytes } from '../../autodiff/live-bytes.ts';
import { ModelGraph } from '../../nn/model-graph.ts';
import type { WeightFacts } from './planned-weights.ts';
import type { Segment } from './segments.ts';

/** One of each kind: layers of a kind take the same memory. */
export function distinct(segments: readonly Segment[]): Segment[] {
  return [...new Map(segments.map((segment) => [segment.kind, segment])).values()];
}

export function hasTrained(weights: WeightFacts, segment: Segment): boolean {
  return build(weights, segment).trained.length > 0;
}

/** @param direction `back`: the piece is computed again and then its gradients */
export function segmentBytes(
  weights: WeightFacts,
  segment: Segment,
  direction: 'forward' | 'back',
  sizes: ReadonlyMap<string, number>,
): number {
  const { graph, values, trained } = build(weights, segment, direction === 'back');
  if (direction === 'forward') return peakLiveBytes(graph, values.outputs, sizes);
  const seeds = new Map(
    Object.entries(values.outputs).map(
      ([name, value]) => [value, graph.input(`d:${name}`, 'float32', value.shape)] as const,
    ),
  );
  const { dense } = pullBack(seeds, [...Object.values(values.inputs), ...trained]);
  const outputs: Record<string, Value> = {};
  for (const [value, gradient] of dense) outputs[`d:${value.name}`] = gradient;
  return peakLiveBytes(graph, outputs, sizes);
}

function build(weights: WeightFacts, segment: Segment, hasDropout = false) {
  const { layer } = segment;
  const fed = (name: string) =>
    layer && name.startsWith(layer.built) ? layer.fed + name.slice(layer.built.length) : name;
  const layout = {
    dtypeOf: (name: string) => weights.dtypeOf(fed(name)),
    adapterOf: (module: string) => weights.adapterOf(fed(module)),
  };
  const graph = new ModelGraph(layout, { hasDropout });
  const values = segment.build(graph);
  const names = new Set(weights.trained.parameters.map(({ name }) => name));
  const trained = graph.inputs.filter(({ source, name }) => source.kind === 'parameter' && names.has(fed(name)));
  return { graph, values, trained };
}
