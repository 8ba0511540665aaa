import { apply, type Operator, type Value } from '../autodiff/graph.ts';
import { shapeMismatch } from './shapes.ts';

export const TRANSPOSE: Operator<{ axes: readonly number[] }> = {
  type: 'Transpose',
  infer: (inputs, { axes }) => {
    const [x] = inputs as [Value];
    if ([...axes].sort((a, b) => a - b).some((axis, i) => axis !== i) || axes.length !== x.rank) {
      throw shapeMismatch('Transpose', inputs, `[${axes}] is no permutation of its axes`);
    }
    return [{ dtype: x.dtype, shape: axes.map((axis) => x.shape[axis]!) }];
  },
  emit: (node, emitter) => {
    emitter.op('Transpose', node.inputs, node.outputs, { attributes: { perm: node.attributes.axes } });
  },
  gradient: (node, [dy]) => {
    const inverse: number[] = [];
    node.attributes.axes.forEach((axis, i) => {
      inverse[axis] = i;
    });
    return [Transpose(dy!, inverse)];
  },
};

/** Axis i of the result is axis `axes[i]` of x. */
export function Transpose(x: Value, axes: readonly number[]): Value {
  return apply(TRANSPOSE, [x], { axes });
}
