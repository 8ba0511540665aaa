import { apply, type Operator, type Value } from '../autodiff/graph.ts';
import { Neg } from './neg.ts';
import { broadcast, requireFloat } from './shapes.ts';
import { sumTo } from './sum-to.ts';

export const SUB: Operator<null> = {
  type: 'Sub',
  infer: (inputs) => {
    requireFloat('Sub', inputs);
    return [{ dtype: 'float32', shape: broadcast('Sub', inputs[0]!, inputs[1]!) }];
  },
  emit: (node, emitter) => {
    emitter.op('Sub', node.inputs, node.outputs);
  },
  gradient: (node, [dy]) => [sumTo(dy!, node.inputs[0]!.shape), sumTo(Neg(dy!), node.inputs[1]!.shape)],
};

/** a - b. Shapes broadcast. @throws SHAPE_MISMATCH */
export function Sub(a: Value, b: Value): Value {
  return apply(SUB, [a, b], null);
}
