import { apply, type Operator, type Value } from '../autodiff/graph.ts';
import { Cast } from './cast.ts';
import { Less } from './less.ts';
import { Mul } from './mul.ts';
import { broadcast, requireFloat } from './shapes.ts';
import { Sub } from './sub.ts';
import { sumTo } from './sum-to.ts';

export const MIN: Operator<null> = {
  type: 'Min',
  infer: (inputs) => {
    requireFloat('Min', inputs);
    return [{ dtype: 'float32', shape: broadcast('Min', inputs[0]!, inputs[1]!) }];
  },
  emit: (node, emitter) => {
    emitter.op('Min', node.inputs, node.outputs);
  },
  gradient: (node, [dy]) => {
    const [a, b] = node.inputs as [Value, Value];
    const fromB = Cast(Less(b, a), 'float32');
    const gradientB = Mul(dy!, fromB);
    return [sumTo(Sub(dy!, gradientB), a.shape), sumTo(gradientB, b.shape)];
  },
};

/** The smaller of a and b; at a tie the gradient goes to a. Shapes broadcast. @throws SHAPE_MISMATCH */
export function Min(a: Value, b: Value): Value {
  return apply(MIN, [a, b], null);
}
