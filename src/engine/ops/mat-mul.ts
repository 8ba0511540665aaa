import { type Dim, sameShape } from '../autodiff/dim.ts';
import { apply, type Operator, type Value } from '../autodiff/graph.ts';
import { requireFloat, shapeMismatch } from './shapes.ts';

export interface MatMulAttributes {
  readonly transA: boolean;
  readonly transB: boolean;
  /** The product is multiplied by this. */
  readonly alpha: number;
}

function extents(a: Value, b: Value, { transA, transB }: MatMulAttributes): [Dim, Dim, Dim, Dim] {
  return [a.dim(transA ? -1 : -2), a.dim(transA ? -2 : -1), b.dim(transB ? -1 : -2), b.dim(transB ? -2 : -1)];
}

export const MAT_MUL: Operator<MatMulAttributes> = {
  type: 'MatMul',
  infer: (inputs, attributes) => {
    requireFloat('MatMul', inputs);
    const [a, b] = inputs as [Value, Value];
    const [rows, inner, innerB, columns] = extents(a, b, attributes);
    if (a.rank < 3 || !sameShape(a.shape.slice(0, -2), b.shape.slice(0, -2))) {
      throw shapeMismatch('MatMul', inputs, 'the leading axes must be equal, at least one of them');
    }
    if (inner !== innerB) throw shapeMismatch('MatMul', inputs, `inner sizes ${inner} and ${innerB} differ`);
    return [{ dtype: 'float32', shape: [...a.shape.slice(0, -2), rows, columns] }];
  },
  emit: (node, emitter) => {
    const { transA, transB, alpha } = node.attributes;
    if (emitter.provider !== 'webgpu') {
      emitter.product('FusedMatMul', node.inputs, node.outputs, {
        domain: 'com.microsoft',
        attributes: { transA: transA ? 1 : 0, transB: transB ? 1 : 0, alpha: { float: alpha } },
      });
      return;
    }
    const swapped = (value: Value) => {
      const axes = value.shape.map((_, axis) => axis);
      const perm = [...axes.slice(0, -2), axes.length - 1, axes.length - 2];
      return emitter.op('Transpose', [value], 1, { attributes: { perm } })[0]!;
    };
    const [a, b] = node.inputs as [Value, Value];
    const operands = [transA ? swapped(a) : a, transB ? swapped(b) : b];
    if (alpha === 1) {
      emitter.op('MatMul', operands, node.outputs);
    } else {
      const [product] = emitter.op('MatMul', operands);
      emitter.op('Mul', [product!, emitter.scalar(alpha)], node.outputs);
    }
  },
  gradient: (node, [dy]) => {
    const [a, b] = node.inputs as [Value, Value];
    const { transA, transB, alpha } = node.attributes;
    const da = transA
      ? MatMul(b, dy!, { transA: transB, transB: true, alpha })
      : MatMul(dy!, b, { transB: !transB, alpha });
    const db = transB
      ? MatMul(dy!, a, { transA: true, transB: transA, alpha })
      : MatMul(a, dy!, { transA: !transA, alpha });
    return [da, db];
  },
};

/**
 * Batched matrix product alpha * op(a) op(b) with equal leading axes.
 *
 * a [..., M, K], b [..., K, N] (each with its last two axes swapped on demand) -> [..., M, N]
 */
export function MatMul(a: Value, b: Value, options: Partial<MatMulAttributes> = {}): Value {
  return apply(MAT_MUL, [a, b], {
    transA: options.transA ?? false,
    transB: options.transB ?? false,
    alpha: options.alpha ?? 1,
  });
}
