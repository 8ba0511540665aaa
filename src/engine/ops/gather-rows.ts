import { multiplyDims } from '../autodiff/dim.ts';
import { apply, type Operator, type Value } from '../autodiff/graph.ts';
import { ReduceSum } from './reduce-sum.ts';
import { Reshape } from './reshape.ts';
import { requireInteger, shapeMismatch } from './shapes.ts';

export const GATHER_ROWS: Operator<null> = {
  type: 'GatherRows',
  infer: (inputs) => {
    const [data, index, uses] = inputs as [Value, Value, Value];
    requireInteger('GatherRows', index);
    requireInteger('GatherRows', uses);
    if (data.rank !== 2 || index.rank !== 1 || uses.rank !== 2 || uses.dim(0) !== data.dim(0)) {
      throw shapeMismatch('GatherRows', inputs, 'data is [R, C], index [N], uses [R, M]');
    }
    return [{ dtype: data.dtype, shape: [index.dim(0), data.dim(1)] }];
  },
  emit: (node, emitter) => {
    const [data, index] = node.inputs as [Value, Value, Value];
    const width = data.dim(1) as number;
    const zero = emitter.constant({ dtype: 'float32', shape: [1, width], data: new Float32Array(width) });
    const [padded] = emitter.op('Concat', [data, zero], 1, { attributes: { axis: 0 } });
    emitter.op('Gather', [padded!, index], node.outputs, { attributes: { axis: 0 } });
  },
  gradient: (node, [dy]) => {
    // Gathering each row's uses instead of scattering: no two threads ever add into one row.
    const [data, index, uses] = node.inputs as [Value, Value, Value];
    const flat = Reshape(uses, [multiplyShape(uses)]);
    const gathered = apply(GATHER_ROWS, [dy!, flat, Reshape(index, [index.dim(0), 1])], null);
    const grouped = Reshape(gathered, [uses.dim(0), uses.dim(1), data.dim(1)]);
    return [uses.dim(1) === 1 ? Reshape(grouped, data.shape) : ReduceSum(grouped, [1]), null, null];
  },
};

function multiplyShape(value: Value) {
  return multiplyDims(...value.shape);
}

/**
 * Rows of a matrix, where an index equal to the number of rows gives a row of zeros: y[i] = data[index[i]].
 *
 * data  [R, C]
 * index [N]     0..R, where R stands for zeros
 * uses  [R, M]  for each row of data the positions i that use it, filled up with N; only the gradient reads it
 * ->    [N, C]
 */
export function GatherRows(data: Value, index: Value, uses: Value): Value {
  return apply(GATHER_ROWS, [data, index, uses], null);
}

/** The `uses` operand for an index: [rows, most uses of one row], filled up with `index.length`. */
export function usesOf(
  index: ArrayLike<number>,
  rows: number,
): { readonly shape: [number, number]; readonly data: Int32Array } {
  const counts = new Int32Array(rows);
  for (let i = 0; i < index.length; i++) if (index[i]! < rows) counts[index[i]!] = counts[index[i]!]! + 1;
  const most = counts.reduce((a, b) => Math.max(a, b), 1);
  const data = new Int32Array(rows * most).fill(index.length);
  counts.fill(0);
  for (let i = 0; i < index.length; i++) {
    const row = index[i]!;
    if (row < rows) {
      const slot = counts[row]!;
      data[row * most + slot] = i;
      counts[row] = slot + 1;
    }
  }
  return { shape: [rows, most], data };
}
