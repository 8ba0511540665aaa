/**
 * Dropout whose noise is a function of keys: the graph hashes random keys of the rows, which are fed, with keys of the
 * layer's columns, which are constants. So a step that is repeated drops the same elements, and no mask is fed.
 */
import { evaluateDim, solveSizes } from '../autodiff/dim.ts';
import type { Value } from '../autodiff/graph.ts';
import { DropoutMask } from '../ops/dropout-mask.ts';
import { Mul } from '../ops/mul.ts';
import type { Feeds } from '../program.ts';
import { RandomStream } from '../random.ts';
import { type HostTensor, int32 } from '../tensor.ts';
import type { ModelGraph } from './model-graph.ts';

const SCALE = 'dropout_scale:';
const SHIFT = 'dropout_shift:';

/**
 * x with a share of its elements zeroed and the others divided by what is kept; x itself where dropout is off.
 *
 * @param layer distinguishes the noise of layers
 */
export function dropout(graph: ModelGraph, x: Value, rate: number, layer: string): Value {
  if (!graph.hasDropout || rate === 0) return x;
  const [rows, width] = x.shape as readonly [string, number];
  const keys = (prefix: string) =>
    graph.find(`${prefix}${rows}`) ?? graph.input(`${prefix}${rows}`, 'int32', [rows, 1]);
  return Mul(x, DropoutMask(keys(SCALE), keys(SHIFT), { width, rate, layer }));
}

/**
 * The random row keys that a graph with dropout asks for.
 *
 * @param wanted the graph's feeds
 * @param given feeds that tell how many rows there are
 * @param noise keys of the random stream, e.g. `[seed, step]`
 */
export function dropoutFeeds(
  wanted: readonly Value[],
  given: Feeds,
  noise: readonly (number | string)[],
): Record<string, HostTensor> {
  const feeds: Record<string, HostTensor> = {};
  const keys = wanted.filter(({ name }) => name.startsWith(SCALE) || name.startsWith(SHIFT));
  if (keys.length === 0) return feeds;
  const told = wanted.flatMap(({ name, shape }) => (given[name] ? [[shape, given[name].shape] as const] : []));
  const sizes = solveSizes(told);
  for (const { name, shape } of keys) {
    const count = evaluateDim(shape[0]!, sizes);
    const stream = new RandomStream(...noise, name);
    feeds[name] = int32(
      [count, 1],
      Int32Array.from({ length: count }, () => stream.uint32()),
    );
  }
  return feeds;
}
