/** Attention of one new token per sequence over a key/value cache, into which its own key and value go first. */
import { type Dim, multiplyDims } from '../autodiff/dim.ts';
import type { Graph, Value } from '../autodiff/graph.ts';
import { Add } from '../ops/add.ts';
import { MatMul } from '../ops/mat-mul.ts';
import { Reshape } from '../ops/reshape.ts';
import { ScatterRows } from '../ops/scatter-rows.ts';
import { Softmax } from '../ops/softmax.ts';

/** Named sizes: S sequences with room for C time steps. */
export interface CachePlaces {
  /** Where the new keys and values go, among the rows of a cached tensor [S*K, 1] int64. */
  readonly rows: Value;
  /** 0 where a sequence has a token, the new one included, a large negative number where not [S, 1, 1, C]. */
  readonly mask: Value;
}

export function cachePlaces(graph: Graph, groups: number): CachePlaces {
  return {
    rows: graph.input('cache_rows', 'int64', [multiplyDims('S', groups), 1]),
    mask: Reshape(graph.input('mask', 'float32', ['S', 'C']), ['S', 1, 1, 'C']),
  };
}

/** Keys or values of all time steps as one row for each [S*K*C, D]. */
export function cachedInput(graph: Graph, name: string, groups: number, width: number): Value {
  return graph.input(name, 'float32', [multiplyDims('S', groups, 'C'), width]);
}

/**
 * The cache with one more key or value per sequence.
 *
 * cached [S*K*C, D], added [S, K, 1, D] -> [S*K*C, D], which may take the memory of `cached`
 */
export function withNewToken(cached: Value, added: Value, { rows }: CachePlaces): Value {
  return ScatterRows(cached, rows, Reshape(added, [rows.dim(0), added.dim(3)]), { add: false });
}

/** A cached tensor by sequence and head: [S, K, C, D]. */
export function byHead(cached: Value, groups: number): Value {
  return Reshape(cached, ['S', groups, 'C', cached.dim(1)]);
}

/**
 * softmax(q keys^T / sqrt(D) + mask) values
 *
 * q            [S, H, 1, D]
 * keys, values [S*K*C, D]    groups of H / K query heads share a key/value head
 * ->           [S, H, 1, D]
 */
export function cachedAttention(q: Value, keys: Value, values: Value, groups: number, { mask }: CachePlaces): Value {
  const [sequences, heads, , width] = q.shape as readonly [Dim, number, Dim, number];
  const grouped = Reshape(q, [sequences, groups, heads / groups, width]);
  const scores = MatMul(grouped, byHead(keys, groups), { transB: true, alpha: 1 / Math.sqrt(width) });
  return Reshape(MatMul(Softmax(Add(scores, mask)), byHead(values, groups)), q.shape);
}
