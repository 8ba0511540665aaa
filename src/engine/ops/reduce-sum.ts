import { apply, type Operator, type Value } from '../autodiff/graph.ts';
import { Expand } from './expand.ts';
import { Reshape } from './reshape.ts';
import { normalizeAxis, requireFloat } from './shapes.ts';

export const REDUCE_SUM: Operator<{ axes: readonly number[]; keepDims: boolean }> = {
  type: 'ReduceSum',
  infer: (inputs, { axes, keepDims }) => {
    requireFloat('ReduceSum', inputs);
    const [x] = inputs as [Value];
    const reduced = new Set(axes.map((axis) => normalizeAxis('ReduceSum', x, axis)));
    const shape = x.shape.flatMap((dim, axis) => (reduced.has(axis) ? (keepDims ? [1] : []) : [dim]));
    return [{ dtype: x.dtype, shape }];
  },
  emit: (node, emitter) => {
    const { axes, keepDims } = node.attributes;
    emitter.op('ReduceSum', [node.inputs[0]!, emitter.ints(axes)], node.outputs, {
      attributes: { keepdims: keepDims ? 1 : 0 },
    });
  },
  gradient: (node, [dy]) => {
    const [x] = node.inputs as [Value];
    const reduced = new Set(node.attributes.axes.map((axis) => normalizeAxis('ReduceSum', x, axis)));
    const kept = x.shape.map((dim, axis) => (reduced.has(axis) ? 1 : dim));
    return [Expand(Reshape(dy!, kept), x.shape)];
  },
};

/** Sum over `axes` (negative ones count from the end). @default keepDims false */
export function ReduceSum(x: Value, axes: readonly number[], options: { keepDims?: boolean } = {}): Value {
  return apply(REDUCE_SUM, [x], { axes, keepDims: options.keepDims ?? false });
}
