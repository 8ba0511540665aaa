import { apply, type Operator, type Value } from '../autodiff/graph.ts';
import { Div } from './div.ts';
import { Expand } from './expand.ts';
import { REDUCE_SUM } from './reduce-sum.ts';
import { Reshape } from './reshape.ts';
import { normalizeAxis, requireFloat, shapeMismatch } from './shapes.ts';

export const REDUCE_MEAN: Operator<{ axes: readonly number[]; keepDims: boolean }> = {
  type: 'ReduceMean',
  infer: (inputs, attributes) => {
    requireFloat('ReduceMean', inputs);
    const [x] = inputs as [Value];
    for (const axis of attributes.axes) {
      if (typeof x.dim(normalizeAxis('ReduceMean', x, axis)) !== 'number') {
        throw shapeMismatch('ReduceMean', inputs, `axis ${axis} must have a fixed size`);
      }
    }
    return REDUCE_SUM.infer(inputs, attributes);
  },
  emit: (node, emitter) => {
    const { axes, keepDims } = node.attributes;
    emitter.op('ReduceMean', [node.inputs[0]!, emitter.ints(axes)], node.outputs, {
      attributes: { keepdims: keepDims ? 1 : 0 },
    });
  },
  gradient: (node, [dy]) => {
    const [x] = node.inputs as [Value];
    const reduced = new Set(node.attributes.axes.map((axis) => normalizeAxis('ReduceMean', x, axis)));
    const count = [...reduced].reduce((product, axis) => product * (x.dim(axis) as number), 1);
    const kept = x.shape.map((dim, axis) => (reduced.has(axis) ? 1 : dim));
    return [Expand(Reshape(Div(dy!, x.graph.scalar(count)), kept), x.shape)];
  },
};

/** Mean over `axes` of fixed size; for axes of symbolic size divide a {@link ReduceSum} by a fed count. */
export function ReduceMean(x: Value, axes: readonly number[], options: { keepDims?: boolean } = {}): Value {
  return apply(REDUCE_MEAN, [x], { axes, keepDims: options.keepDims ?? false });
}
