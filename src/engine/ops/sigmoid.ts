import { apply, type Operator, type Value } from '../autodiff/graph.ts';
import { Mul } from './mul.ts';
import { like } from './shapes.ts';
import { Sub } from './sub.ts';

export const SIGMOID: Operator<null> = {
  type: 'Sigmoid',
  infer: (inputs) => like('Sigmoid', inputs),
  emit: (node, emitter) => {
    emitter.op('Sigmoid', node.inputs, node.outputs);
  },
  gradient: (node, [dy]) => {
    const y = node.outputs[0]!;
    return [Mul(dy!, Sub(y, Mul(y, y)))];
  },
};

/** 1 / (1 + e^-x). Shape of x is kept. */
export function Sigmoid(x: Value): Value {
  return apply(SIGMOID, [x], null);
}
