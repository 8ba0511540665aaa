import { apply, type Operator, type Value } from '../autodiff/graph.ts';
import { Mul } from './mul.ts';
import { like } from './shapes.ts';
import { Sub } from './sub.ts';

export const TANH: Operator<null> = {
  type: 'Tanh',
  infer: (inputs) => like('Tanh', inputs),
  emit: (node, emitter) => {
    emitter.op('Tanh', node.inputs, node.outputs);
  },
  gradient: (node, [dy]) => {
    const y = node.outputs[0]!;
    return [Mul(dy!, Sub(y.graph.scalar(1), Mul(y, y)))];
  },
};

/** Hyperbolic tangent. Shape of x is kept. */
export function Tanh(x: Value): Value {
  return apply(TANH, [x], null);
}
