/**
 * Attention of one new token per sequence where several sequences continue one prompt: keys and values of the prompt are
 * read once for all of them, as one product with the queries of the group, instead of once for each.
 *
 * Groups have different numbers of sequences, so queries are laid out on a grid of groups and places, of which some are
 * empty; everything else has one row per sequence.
 */
import { type Dim, multiplyDims } from '../autodiff/dim.ts';
import type { Value } from '../autodiff/graph.ts';
import { Add } from '../ops/add.ts';
import { Concat } from '../ops/concat.ts';
import { Embedding } from '../ops/embedding.ts';
import { MatMul } from '../ops/mat-mul.ts';
import { Reshape } from '../ops/reshape.ts';
import { Softmax } from '../ops/softmax.ts';
import { Split } from '../ops/split.ts';
import { Transpose } from '../ops/transpose.ts';
import { byHead, type CachePlaces } from './cached-attention.ts';

/** Named sizes: G groups of at most W sequences, S sequences, R time steps of prompts, C time steps after them. */
export interface SharedPrefix {
  /** Sequence at every place of the grid [G*W] int32; any sequence at an empty one. */
  readonly toGrid: Value;
  /** Place of every sequence [S] int32. */
  readonly fromGrid: Value;
  /** 0 where a prompt has a token, a large negative number where not [G, 1, 1, R]. */
  readonly mask: Value;
  readonly grid: readonly [groups: Dim, places: Dim];
}

/**
 * softmax([q prefixK^T / sqrt(D) + prefix mask, q keys^T / sqrt(D) + mask]) [prefixV; values]
 *
 * q                [S, H, 1, D]
 * prefixK, prefixV [G, K, R, D]  groups of H / K query heads share a key/value head
 * keys, values     [S*K*C, D]    after the prompts, the new token's own among them
 * ->               [S, H, 1, D]
 */
export function sharedPrefixAttention(
  q: Value,
  [prefixK, prefixV]: readonly [Value, Value],
  [keys, values]: readonly [Value, Value],
  { mask: ownMask }: CachePlaces,
  { toGrid, fromGrid, mask, grid: [groups, places] }: SharedPrefix,
): Value {
  const [sequences, heads, , width] = q.shape as readonly [Dim, number, Dim, number];
  const keyHeads = prefixK.dim(1) as number;
  const perKey = heads / keyHeads;
  const alpha = 1 / Math.sqrt(width);
  const spots = multiplyDims(groups, places);

  /** [S, K, H/K, X] -> [G, K, W*H/K, X] */
  const onGrid = (x: Value, last: Dim): Value => {
    const rows = Embedding(Reshape(x, [sequences, multiplyDims(heads, last)]), toGrid);
    const laidOut = Transpose(Reshape(rows, [groups, places, keyHeads, perKey, last]), [0, 2, 1, 3, 4]);
    return Reshape(laidOut, [groups, keyHeads, multiplyDims(places, perKey), last]);
  };
  /** The reverse. */
  const offGrid = (x: Value, last: Dim): Value => {
    const apart = Transpose(Reshape(x, [groups, keyHeads, places, perKey, last]), [0, 2, 1, 3, 4]);
    const rows = Embedding(Reshape(apart, [spots, multiplyDims(heads, last)]), fromGrid);
    return Reshape(rows, [sequences, keyHeads, perKey, last]);
  };

  const queries = Reshape(q, [sequences, keyHeads, perKey, width]);
  const steps = prefixK.dim(2);
  const own = byHead(keys, keyHeads);
  const onPrefix = Add(MatMul(onGrid(queries, width), prefixK, { transB: true, alpha }), mask);
  const onOwn = Add(MatMul(queries, own, { transB: true, alpha }), ownMask);
  const scores = Concat([offGrid(onPrefix, steps), onOwn], 3);
  const [prefixWeights, ownWeights] = Split(Softmax(scores), 3, [steps, own.dim(2)]) as [Value, Value];
  const fromPrefix = offGrid(MatMul(onGrid(prefixWeights, steps), prefixV), width);
  return Reshape(Add(fromPrefix, MatMul(ownWeights, byHead(values, keyHeads))), q.shape);
}
