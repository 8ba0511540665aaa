import type { Dim } from '../autodiff/dim.ts';
import { apply, type Operator, type Value } from '../autodiff/graph.ts';
import { requireFloat, shapeMismatch } from './shapes.ts';

export interface GemmAttributes {
  readonly transA: boolean;
  readonly transB: boolean;
}

function extents(a: Value, b: Value, { transA, transB }: GemmAttributes): [Dim, Dim, Dim, Dim] {
  return [a.dim(transA ? 1 : 0), a.dim(transA ? 0 : 1), b.dim(transB ? 1 : 0), b.dim(transB ? 0 : 1)];
}

export const GEMM: Operator<GemmAttributes> = {
  type: 'Gemm',
  infer: (inputs, attributes) => {
    requireFloat('Gemm', inputs);
    const [a, b] = inputs as [Value, Value];
    if (a.rank !== 2 || b.rank !== 2) throw shapeMismatch('Gemm', inputs, 'both operands are matrices');
    const [rows, inner, innerB, columns] = extents(a, b, attributes);
    if (inner !== innerB) throw shapeMismatch('Gemm', inputs, `inner sizes ${inner} and ${innerB} differ`);
    return [{ dtype: 'float32', shape: [rows, columns] }];
  },
  emit: (node, emitter) => {
    const { transA, transB } = node.attributes;
    emitter.product('Gemm', node.inputs, node.outputs, {
      attributes: { transA: transA ? 1 : 0, transB: transB ? 1 : 0 },
    });
  },
  gradient: (node, [dy]) => {
    const [a, b] = node.inputs as [Value, Value];
    const { transA, transB } = node.attributes;
    // C = op(A) op(B): d op(A) = dC op(B)^T, d op(B) = op(A)^T dC.
    const da = transA ? Gemm(b, dy!, { transA: transB, transB: true }) : Gemm(dy!, b, { transB: !transB });
    const db = transB ? Gemm(dy!, a, { transA: true, transB: transA }) : Gemm(a, dy!, { transA: !transA });
    return [da, db];
  },
};

/**
 * Matrix product op(a) op(b), where op transposes on demand.
 *
 * a [M, K] (or [K, M] with transA), b [K, N] (or [N, K] with transB) -> [M, N]
 */
export function Gemm(a: Value, b: Value, options: Partial<GemmAttributes> = {}): Value {
  return apply(GEMM, [a, b], { transA: options.transA ?? false, transB: options.transB ?? false });
}
