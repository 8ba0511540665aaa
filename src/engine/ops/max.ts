import { apply, type Operator, type Value } from '../autodiff/graph.ts';
import { Cast } from './cast.ts';
import { Less } from './less.ts';
import { Mul } from './mul.ts';
import { broadcast, requireFloat } from './shapes.ts';
import { Sub } from './sub.ts';
import { sumTo } from './sum-to.ts';

export const MAX: Operator<null> = {
  type: 'Max',
  infer: (inputs) => {
    requireFloat('Max', inputs);
    return [{ dtype: 'float32', shape: broadcast('Max', inputs[0]!, inputs[1]!) }];
  },
  emit: (node, emitter) => {
    emitter.op('Max', node.inputs, node.outputs);
  },
  gradient: (node, [dy]) => {
    const [a, b] = node.inputs as [Value, Value];
    const fromB = Cast(Less(a, b), 'float32');
    const gradientB = Mul(dy!, fromB);
    return [sumTo(Sub(dy!, gradientB), a.shape), sumTo(gradientB, b.shape)];
  },
};

/** The larger of a and b; at a tie the gradient goes to a. Shapes broadcast. @throws SHAPE_MISMATCH */
export function Max(a: Value, b: Value): Value {
  return apply(MAX, [a, b], null);
}
