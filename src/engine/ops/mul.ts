import { apply, type Operator, type Value } from '../autodiff/graph.ts';
import { broadcast, requireFloat } from './shapes.ts';
import { sumTo } from './sum-to.ts';

export const MUL: Operator<null> = {
  type: 'Mul',
  infer: (inputs) => {
    requireFloat('Mul', inputs);
    return [{ dtype: 'float32', shape: broadcast('Mul', inputs[0]!, inputs[1]!) }];
  },
  emit: (node, emitter) => {
    emitter.op('Mul', node.inputs, node.outputs);
  },
  gradient: (node, [dy]) => {
    const [a, b] = node.inputs as [Value, Value];
    return [sumTo(Mul(dy!, b), a.shape), sumTo(Mul(dy!, a), b.shape)];
  },
};

/** a * b, element by element. Shapes broadcast. @throws SHAPE_MISMATCH */
export function Mul(a: Value, b: Value): Value {
  return apply(MUL, [a, b], null);
}
