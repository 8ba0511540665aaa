import { addDims, type Dim } from '../autodiff/dim.ts';
import { apply, type Operator, type Value } from '../autodiff/graph.ts';
import { normalizeAxis, shapeMismatch } from './shapes.ts';
import { Split } from './split.ts';

export const CONCAT: Operator<{ axis: number }> = {
  type: 'Concat',
  infer: (inputs, { axis }) => {
    const [first] = inputs as [Value];
    const at = normalizeAxis('Concat', first, axis);
    let size: Dim = 0;
    for (const input of inputs) {
      if (input.rank !== first.rank || input.shape.some((dim, i) => i !== at && dim !== first.shape[i])) {
        throw shapeMismatch('Concat', inputs, `the shapes differ outside axis ${at}`);
      }
      size = addDims(size, input.dim(at));
    }
    return [{ dtype: first.dtype, shape: first.shape.map((dim, i) => (i === at ? size : dim)) }];
  },
  emit: (node, emitter) => {
    const axis = normalizeAxis('Concat', node.inputs[0]!, node.attributes.axis);
    emitter.op('Concat', node.inputs, node.outputs, { attributes: { axis } });
  },
  gradient: (node, [dy]) => {
    const { axis } = node.attributes;
    return Split(
      dy!,
      axis,
      node.inputs.map((input) => input.dim(axis)),
    );
  },
};

/** Joins along an axis; all other axes agree. */
export function Concat(inputs: readonly Value[], axis: number): Value {
  return inputs.length === 1 ? inputs[0]! : apply(CONCAT, inputs, { axis });
}
