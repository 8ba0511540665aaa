import { formatShape, multiplyDims, type Shape, sameShape } from '../autodiff/dim.ts';
import { apply, type Operator, type Value } from '../autodiff/graph.ts';
import { shapeMismatch } from './shapes.ts';

export const RESHAPE: Operator<{ shape: Shape }> = {
  type: 'Reshape',
  infer: (inputs, { shape }) => {
    const [x] = inputs as [Value];
    if (multiplyDims(...x.shape) !== multiplyDims(...shape)) {
      throw shapeMismatch('Reshape', inputs, `${formatShape(shape)} has another number of elements`);
    }
    return [{ dtype: x.dtype, shape }];
  },
  emit: (node, emitter) => {
    const [x] = node.inputs as [Value];
    emitter.op('Reshape', [x, emitter.reshapeTarget(node.attributes.shape, x.shape)], node.outputs);
  },
  gradient: (node, [dy]) => [Reshape(dy!, node.inputs[0]!.shape)],
};

/** The same elements in another shape. @throws SHAPE_MISMATCH when the number of elements differs */
export function Reshape(x: Value, shape: Shape): Value {
  return sameShape(x.shape, shape) ? x : apply(RESHAPE, [x], { shape });
}
