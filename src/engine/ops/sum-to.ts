/** Reduces a broadcast gradient back to the operand's shape. */

import { type Shape, sameShape } from '../autodiff/dim.ts';
import type { Value } from '../autodiff/graph.ts';
import { ReduceSum } from './reduce-sum.ts';
import { Reshape } from './reshape.ts';

/** Sums `x` over the axes in which `shape` has 1 or no axis. */
export function sumTo(x: Value, shape: Shape): Value {
  if (sameShape(x.shape, shape)) return x;
  const missing = x.rank - shape.length;
  const axes = x.shape.flatMap((dim, axis) =>
    axis < missing || (shape[axis - missing] === 1 && dim !== 1) ? [axis] : [],
  );
  const sum = ReduceSum(x, axes, { keepDims: true });
  return sameShape(sum.shape, shape) ? sum : Reshape(sum, shape);
}
