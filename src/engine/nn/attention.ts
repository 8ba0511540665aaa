/** Scaled dot-product attention out of plain operators, for training graphs. */
import { type Dim, multiplyDims } from '../autodiff/dim.ts';
import type { Value } from '../autodiff/graph.ts';
import { Add } from '../ops/add.ts';
import { MatMul } from '../ops/mat-mul.ts';
import { Reshape } from '../ops/reshape.ts';
import { Softmax } from '../ops/softmax.ts';
import { Transpose } from '../ops/transpose.ts';

/** Splits [B*T, H*D] into heads: [B, H, T, D]. */
export function splitHeads(x: Value, batch: Dim, tokens: Dim, heads: number): Value {
  const width = (x.dim(1) as number) / heads;
  return Transpose(Reshape(x, [batch, tokens, heads, width]), [0, 2, 1, 3]);
}

/** The reverse of {@link splitHeads}. */
export function joinHeads(x: Value, rows: Dim): Value {
  const [, heads, , width] = x.shape as readonly [Dim, number, Dim, number];
  return Reshape(Transpose(x, [0, 2, 1, 3]), [rows, heads * width]);
}

/**
 * softmax(q k^T / sqrt(D) + bias) v, where groups of H / K query heads share a key/value head.
 *
 * q    [B, H, Q, D]
 * k, v [B, K, T, D]
 * bias broadcasts to [B, H, Q, T]: 0 where a query may look, a large negative number where not; null for everywhere
 * ->   [B, H, Q, D]
 *
 * @see Ainslie et al. 2023, arXiv:2305.13245 (grouped queries)
 */
export function attention(q: Value, k: Value, v: Value, bias: Value | null): Value {
  const [batch, heads, queries, width] = q.shape as readonly [Dim, number, Dim, number];
  const [, groups, tokens] = k.shape as readonly [Dim, number, Dim];
  const perGroup = heads / groups;
  // The query heads of a group are laid along the rows, so keys and values are never repeated.
  const rows = multiplyDims(perGroup, queries);
  const grouped = Reshape(q, [batch, groups, rows, width]);
  const scores = MatMul(grouped, k, { transB: true, alpha: 1 / Math.sqrt(width) });
  const perHead = Reshape(scores, [batch, heads, queries, tokens]);
  const weights = Softmax(bias ? Add(perHead, bias) : perHead);
  const mixed = MatMul(Reshape(weights, [batch, groups, rows, tokens]), v);
  return Reshape(mixed, [batch, heads, queries, width]);
}
