import { apply, type Operator, type Value } from '../autodiff/graph.ts';
import { Mul } from './mul.ts';
import { Neg } from './neg.ts';
import { broadcast, requireFloat } from './shapes.ts';
import { sumTo } from './sum-to.ts';

export const DIV: Operator<null> = {
  type: 'Div',
  infer: (inputs) => {
    requireFloat('Div', inputs);
    return [{ dtype: 'float32', shape: broadcast('Div', inputs[0]!, inputs[1]!) }];
  },
  emit: (node, emitter) => {
    emitter.op('Div', node.inputs, node.outputs);
  },
  gradient: (node, [dy]) => {
    const [a, b] = node.inputs as [Value, Value];
    const quotient = Div(dy!, b);
    return [sumTo(quotient, a.shape), sumTo(Neg(Mul(quotient, node.outputs[0]!)), b.shape)];
  },
};

/** a / b, element by element. Shapes broadcast. @throws SHAPE_MISMATCH */
export function Div(a: Value, b: Value): Value {
  return apply(DIV, [a, b], null);
}
