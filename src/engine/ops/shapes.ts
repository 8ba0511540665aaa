/** Shape rules that several operators share. */

import { Fr1Error } from '../../errors/fr1-error.ts';
import { type Dim, formatShape, type Shape } from '../autodiff/dim.ts';
import type { Value, ValueSpec } from '../autodiff/graph.ts';

export function shapeMismatch(operator: string, inputs: readonly Value[], why: string): Fr1Error {
  return new Fr1Error('SHAPE_MISMATCH', `${operator}(${inputs.map((input) => input.describe()).join(', ')}): ${why}`);
}

export function requireFloat(operator: string, inputs: readonly Value[]): void {
  for (const input of inputs) {
    if (input.dtype !== 'float32') {
      throw new Fr1Error('DTYPE_MISMATCH', `${operator} takes float32, got ${input.describe()}`);
    }
  }
}

export function requireInteger(operator: string, input: Value): void {
  if (input.dtype !== 'int32' && input.dtype !== 'int64') {
    throw new Fr1Error('DTYPE_MISMATCH', `${operator} takes int32 or int64 indices, got ${input.describe()}`);
  }
}

/** Multidirectional broadcasting as in ONNX and numpy. @throws SHAPE_MISMATCH */
export function broadcast(operator: string, a: Value, b: Value): Shape {
  const rank = Math.max(a.rank, b.rank);
  const shape: Dim[] = [];
  for (let axis = 0; axis < rank; axis++) {
    const left = a.shape[axis - rank + a.rank] ?? 1;
    const right = b.shape[axis - rank + b.rank] ?? 1;
    if (left !== right && left !== 1 && right !== 1) {
      throw shapeMismatch(operator, [a, b], `axis ${axis}: ${left} does not broadcast with ${right}`);
    }
    shape.push(left === 1 ? right : left);
  }
  return shape;
}

/** The spec of an element-wise operator with one float32 operand. */
export function like(operator: string, inputs: readonly Value[]): ValueSpec[] {
  requireFloat(operator, inputs);
  return [{ dtype: inputs[0]!.dtype, shape: inputs[0]!.shape }];
}

export function normalizeAxis(operator: string, input: Value, axis: number): number {
  const normal = axis < 0 ? axis + input.rank : axis;
  if (normal < 0 || normal >= input.rank) {
    throw shapeMismatch(operator, [input], `axis ${axis} is outside ${formatShape(input.shape)}`);
  }
  return normal;
}
