import { apply, type Operator, type Value } from '../autodiff/graph.ts';
import { broadcast, requireFloat } from './shapes.ts';
import { sumTo } from './sum-to.ts';

export const ADD: Operator<null> = {
  type: 'Add',
  infer: (inputs) => {
    requireFloat('Add', inputs);
    return [{ dtype: 'float32', shape: broadcast('Add', inputs[0]!, inputs[1]!) }];
  },
  emit: (node, emitter) => {
    emitter.op('Add', node.inputs, node.outputs);
  },
  gradient: (node, [dy]) => node.inputs.map((input) => sumTo(dy!, input.shape)),
};

/** a + b. Shapes broadcast. @throws SHAPE_MISMATCH */
export function Add(a: Value, b: Value): Value {
  return apply(ADD, [a, b], null);
}
