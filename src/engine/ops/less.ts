import { apply, type Operator, type Value } from '../autodiff/graph.ts';
import { broadcast, requireFloat } from './shapes.ts';

export const LESS: Operator<null> = {
  type: 'Less',
  infer: (inputs) => {
    requireFloat('Less', inputs);
    return [{ dtype: 'bool', shape: broadcast('Less', inputs[0]!, inputs[1]!) }];
  },
  emit: (node, emitter) => {
    emitter.op('Less', node.inputs, node.outputs);
  },
  gradient: { zero: 'a comparison is constant almost everywhere' },
};

/** a < b as bool. Shapes broadcast. */
export function Less(a: Value, b: Value): Value {
  return apply(LESS, [a, b], null);
}
