import { apply, type Operator, type Value } from '../autodiff/graph.ts';
import { requireFloat, shapeMismatch } from './shapes.ts';

export interface PastMatMulAttributes {
  /** true: a is [B, K, G, D] and the result [B, K, G, P]; false: a is [B, K, G, P] and the result [B, K, G, D]. */
  readonly transB: boolean;
  readonly alpha: number;
}

export const PAST_MAT_MUL: Operator<PastMatMulAttributes> = {
  type: 'PastMatMul',
  infer: (inputs, { transB }) => {
    requireFloat('PastMatMul', inputs);
    const [a, past] = inputs as [Value, Value];
    const fits =
      a.rank === 4 &&
      past.rank === 4 &&
      a.dim(0) === past.dim(1) &&
      a.dim(1) === past.dim(2) &&
      a.dim(3) === past.dim(transB ? 3 : 0);
    if (!fits) throw shapeMismatch('PastMatMul', inputs, 'the cache is [P, B, K, D]');
    return [{ dtype: 'float32', shape: [...a.shape.slice(0, 3), past.dim(transB ? 0 : 3)] }];
  },
  emit: (node, emitter) => {
    const [a, past] = node.inputs as [Value, Value];
    const { transB, alpha } = node.attributes;
    if (emitter.provider !== 'webgpu') {
      emitter.op('FusedMatMul', [a, past], node.outputs, {
        domain: 'com.microsoft',
        attributes: { transB: transB ? 1 : 0, transBatchB: 1, alpha: { float: alpha } },
      });
      return;
    }
    const perm = transB ? [1, 2, 3, 0] : [1, 2, 0, 3];
    const [turned] = emitter.op('Transpose', [past], 1, { attributes: { perm } });
    const [product] = emitter.op('MatMul', [a, turned!]);
    emitter.op('Mul', [product!, emitter.scalar(alpha)], node.outputs);
  },
  gradient: { forbidden: 'a key/value cache is used for sampling, which is not differentiated' },
};

/**
 * Matrix product with a time-major key/value cache, which grows at its end without moving.
 *
 * a [B, K, G, D] (or [B, K, G, P]), past [P, B, K, D] -> alpha * a past^T [B, K, G, P] (or a past [B, K, G, D])
 */
export function PastMatMul(a: Value, past: Value, options: Partial<PastMatMulAttributes> = {}): Value {
  return apply(PAST_MAT_MUL, [a, past], { transB: options.transB ?? false, alpha: options.alpha ?? 1 });
}
