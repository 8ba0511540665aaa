import { formatShape, type Shape, sameShape } from '../autodiff/dim.ts';
import { apply, type Operator, type Value } from '../autodiff/graph.ts';
import { shapeMismatch } from './shapes.ts';
import { sumTo } from './sum-to.ts';

export const EXPAND: Operator<{ shape: Shape }> = {
  type: 'Expand',
  infer: (inputs, { shape }) => {
    const [x] = inputs as [Value];
    const missing = shape.length - x.rank;
    if (missing < 0 || x.shape.some((dim, axis) => dim !== 1 && dim !== shape[axis + missing])) {
      throw shapeMismatch('Expand', inputs, `it does not broadcast to ${formatShape(shape)}`);
    }
    return [{ dtype: x.dtype, shape }];
  },
  emit: (node, emitter) => {
    emitter.op('Expand', [node.inputs[0]!, emitter.shape(node.attributes.shape)], node.outputs);
  },
  gradient: (node, [dy]) => [sumTo(dy!, node.inputs[0]!.shape)],
};

/** Broadcasts x to a shape. @throws SHAPE_MISMATCH */
export function Expand(x: Value, shape: Shape): Value {
  return sameShape(x.shape, shape) ? x : apply(EXPAND, [x], { shape });
}
