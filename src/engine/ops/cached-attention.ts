import { apply, type Operator, type Value } from '../autodiff/graph.ts';
import { requireFloat, shapeMismatch } from './shapes.ts';

export const CACHED_ATTENTION: Operator<null> = {
  type: 'CachedAttention',
  infer: (inputs) => {
    requireFloat('CachedAttention', inputs);
    const [q, k, v, pastK, pastV, mask] = inputs as [Value, Value, Value, Value, Value, Value];
    const [batch, heads, one, width] = q.shape;
    const is = (value: Value, ...shape: typeof q.shape) =>
      value.rank === shape.length && shape.every((dim, axis) => value.dim(axis) === dim);
    const groups = k.dim(1);
    const past = pastK.dim(0);
    const fits =
      one === 1 &&
      Number.isInteger(Number(heads) / Number(groups)) &&
      [k, v].every((value) => is(value, batch!, groups, 1, width!)) &&
      [pastK, pastV].every((value) => is(value, past, batch!, groups, width!)) &&
      is(mask, batch!, 1, 1, past);
    if (!fits) {
      throw shapeMismatch(
        'CachedAttention',
        inputs,
        'q is [S, H, 1, D], k and v are [S, K, 1, D], the caches [P, S, K, D], the mask [S, 1, 1, P]',
      );
    }
    return [{ dtype: 'float32', shape: q.shape }];
  },
  emit: (node, emitter) => {
    const [q, k, v, pastK, pastV, mask] = node.inputs as [Value, Value, Value, Value, Value, Value];
    const [batch, heads, , width] = q.shape as readonly [Value['shape'][number], number, number, number];
    const groups = k.dim(1) as number;
    const alpha = 1 / Math.sqrt(width);
    const fused = emitter.provider !== 'webgpu';
    const domain = 'com.microsoft';
    const target = emitter.reshapeTarget([batch, groups, heads / groups, width], q.shape);
    const grouped = emitter.op('Reshape', [q, target])[0]!;
    let pastScores: string;
    let ownScores: string;
    if (fused) {
      const attributes = { transB: 1, alpha: { float: alpha } };
      pastScores = emitter.op('FusedMatMul', [grouped, pastK], 1, {
        domain,
        attributes: { ...attributes, transBatchB: 1 },
      })[0]!;
      ownScores = emitter.op('FusedMatMul', [grouped, k], 1, { domain, attributes })[0]!;
    } else {
      const scaled = emitter.op('Mul', [grouped, emitter.scalar(alpha)])[0]!;
      const turned = emitter.op('Transpose', [pastK], 1, { attributes: { perm: [1, 2, 3, 0] } })[0]!;
      pastScores = emitter.op('MatMul', [scaled, turned])[0]!;
      const products = emitter.op('Mul', [scaled, k])[0]!;
      ownScores = emitter.op('ReduceSum', [products, emitter.ints([3])], 1, { attributes: { keepdims: 1 } })[0]!;
    }
    const masked = emitter.op('Add', [pastScores, mask])[0]!;
    const scores = emitter.op('Concat', [masked, ownScores], 1, { attributes: { axis: 3 } })[0]!;
    const weights = emitter.op('Softmax', [scores], 1, { attributes: { axis: -1 } })[0]!;
    const [zero, last, end, axis] = [0, -1, 2 ** 31 - 1, 3].map((value) => emitter.ints([value])) as [
      string,
      string,
      string,
      string,
    ];
    const pastWeights = emitter.op('Slice', [weights, zero, last, axis])[0]!;
    const ownWeights = emitter.op('Slice', [weights, last, end, axis])[0]!;
    const pastMix = fused
      ? emitter.op('FusedMatMul', [pastWeights, pastV], 1, { domain, attributes: { transBatchB: 1 } })[0]!
      : emitter.op('MatMul', [
          pastWeights,
          emitter.op('Transpose', [pastV], 1, { attributes: { perm: [1, 2, 0, 3] } })[0]!,
        ])[0]!;
    const mixed = emitter.op('Add', [pastMix, emitter.op('Mul', [ownWeights, v])[0]!])[0]!;
    emitter.op(
      'Reshape',
      [mixed, emitter.reshapeTarget(q.shape, [batch, groups, heads / groups, width])],
      node.outputs,
    );
  },
  gradient: { forbidden: 'a key/value cache is used for sampling, which is not differentiated' },
};

/**
 * Attention of one new token per sequence over a time-major key/value cache and itself:
 * softmax([q pastK^T / sqrt(D) + mask, q k^T / sqrt(D)]) [pastV; v].
 *
 * q            [S, H, 1, D]
 * k, v         [S, K, 1, D]  the new token's own; groups of H / K query heads share a key/value head
 * pastK, pastV [P, S, K, D]
 * mask         [S, 1, 1, P]  0 where the sequence has a token, a large negative number where not
 * ->           [S, H, 1, D]
 */
export function CachedAttention(q: Value, k: Value, v: Value, pastK: Value, pastV: Value, mask: Value): Value {
  return apply(CACHED_ATTENTION, [q, k, v, pastK, pastV, mask], null);
}
