import { apply, type Operator, type Value } from '../autodiff/graph.ts';
import { requireFloat, shapeMismatch } from './shapes.ts';

export interface ScatterRowsAttributes {
  /** true: rows are added, equal indices too; false: they replace, and no index occurs twice. */
  readonly add: boolean;
}

export const SCATTER_ROWS: Operator<ScatterRowsAttributes> = {
  type: 'ScatterRows',
  infer: (inputs) => {
    const [table, index, rows] = inputs as [Value, Value, Value];
    requireFloat('ScatterRows', [table, rows]);
    const fits =
      table.rank === 2 &&
      rows.rank === 2 &&
      index.rank === 2 &&
      index.dtype === 'int64' &&
      index.dim(1) === 1 &&
      index.dim(0) === rows.dim(0) &&
      table.dim(1) === rows.dim(1);
    if (!fits)
      throw shapeMismatch('ScatterRows', inputs, 'the table is [R, C], the index int64 [N, 1], rows are [N, C]');
    return [{ dtype: 'float32', shape: table.shape }];
  },
  emit: (node, emitter) => {
    const { add } = node.attributes;
    const [table, index, rows] = node.inputs as [Value, Value, Value];
    // NOTE: the CPU's ScatterND adds without synchronisation, so equal indices lose sums there; ScatterElements does not.
    if (add && emitter.provider === 'cpu') {
      const [wide] = emitter.op('Expand', [index, emitter.shape(rows.shape)]);
      emitter.op('ScatterElements', [table, wide!, rows], node.outputs, { attributes: { axis: 0, reduction: 'add' } });
      return;
    }
    emitter.op('ScatterND', [table, index, rows], node.outputs, { attributes: { reduction: add ? 'add' : 'none' } });
  },
  gradient: { forbidden: 'it writes gradients and caches, which are not differentiated' },
};

/**
 * A table with rows added to it or put into it: y[index[i]] += rows[i], or = rows[i].
 *
 * table [R, C], index [N, 1] int64, rows [N, C] -> [R, C]; the result may take the table's memory
 */
export function ScatterRows(table: Value, index: Value, rows: Value, attributes: ScatterRowsAttributes): Value {
  return apply(SCATTER_ROWS, [table, index, rows], attributes);
}
