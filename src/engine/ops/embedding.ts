import { apply, type Operator, type Value } from '../autodiff/graph.ts';
import { requireInteger, shapeMismatch } from './shapes.ts';

export const EMBEDDING: Operator<null> = {
  type: 'Embedding',
  infer: (inputs) => {
    const [table, ids] = inputs as [Value, Value];
    requireInteger('Embedding', ids);
    if (table.rank !== 2 || ids.rank !== 1) throw shapeMismatch('Embedding', inputs, 'table is [V, C], ids are [N]');
    return [{ dtype: table.dtype, shape: [ids.dim(0), table.dim(1)] }];
  },
  emit: (node, emitter) => {
    emitter.op('Gather', node.inputs, node.outputs, { attributes: { axis: 0 } });
  },
  gradient: { forbidden: 'backward() returns the gradient of a table as rows, not as a dense tensor' },
};

/**
 * Rows of a table: y[i] = table[ids[i]].
 *
 * table [V, C], ids [N] int32 or int64 -> [N, C]
 */
export function Embedding(table: Value, ids: Value): Value {
  return apply(EMBEDDING, [table, ids], null);
}
