import { apply, type Operator, type Value } from '../autodiff/graph.ts';
import { sizeOf } from '../tensor.ts';
import { shapeMismatch } from './shapes.ts';

export const FLAT_PART: Operator<{ from: number; shape: readonly number[] }> = {
  type: 'FlatPart',
  infer: (inputs, { from, shape }) => {
    const [flat] = inputs as [Value];
    const length = flat.dim(0);
    if (flat.rank !== 1 || typeof length !== 'number' || from < 0 || from + sizeOf(shape) > length) {
      throw shapeMismatch('FlatPart', inputs, `[${shape}] from element ${from} on is not inside a vector of that size`);
    }
    return [{ dtype: flat.dtype, shape }];
  },
  emit: (node, emitter) => {
    const { from, shape } = node.attributes;
    const [start, end, axis] = [from, from + sizeOf(shape), 0].map((value) => emitter.ints([value]));
    const [part] = emitter.op('Slice', [node.inputs[0]!, start!, end!, axis!]);
    emitter.op('Reshape', [part!, emitter.ints(shape)], node.outputs);
  },
  gradient: { forbidden: 'it copies weights out of the vector that the optimiser updates' },
};

/** A tensor that lies in a vector from element `from` on: [N] -> shape. */
export function FlatPart(flat: Value, from: number, shape: readonly number[]): Value {
  return apply(FLAT_PART, [flat], { from, shape });
}
