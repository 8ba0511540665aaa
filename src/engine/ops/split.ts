import { addDims, type Dim } from '../autodiff/dim.ts';
import type { Operator, Value } from '../autodiff/graph.ts';
import { Concat } from './concat.ts';
import { Expand } from './expand.ts';
import { normalizeAxis, shapeMismatch } from './shapes.ts';

export const SPLIT: Operator<{ axis: number; sizes: readonly Dim[] }> = {
  type: 'Split',
  infer: (inputs, { axis, sizes }) => {
    const [x] = inputs as [Value];
    const at = normalizeAxis('Split', x, axis);
    if (x.dim(at) !== sizes.reduce(addDims, 0)) {
      throw shapeMismatch('Split', inputs, `the parts [${sizes}] do not add up to axis ${at}`);
    }
    return sizes.map((size) => ({ dtype: x.dtype, shape: x.shape.map((dim, i) => (i === at ? size : dim)) }));
  },
  emit: (node, emitter) => {
    const { sizes } = node.attributes;
    const axis = normalizeAxis('Split', node.inputs[0]!, node.attributes.axis);
    emitter.op('Split', [node.inputs[0]!, emitter.shape(sizes)], node.outputs, { attributes: { axis } });
  },
  gradient: (node, gradients) => {
    const parts = gradients.map((gradient, i) => {
      const output = node.outputs[i]!;
      return gradient ?? Expand(output.graph.scalar(0), output.shape);
    });
    return [Concat(parts, node.attributes.axis)];
  },
};

/** Cuts an axis into parts of the given sizes. */
export function Split(x: Value, axis: number, sizes: readonly Dim[]): readonly Value[] {
  return sizes.length === 1 ? [x] : x.graph.apply(SPLIT, [x], { axis, sizes });
}
