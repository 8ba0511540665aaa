import { apply, type Operator, type Value } from '../autodiff/graph.ts';
import { Mul } from './mul.ts';
import { like } from './shapes.ts';

export const EXP: Operator<null> = {
  type: 'Exp',
  infer: (inputs) => like('Exp', inputs),
  emit: (node, emitter) => {
    emitter.op('Exp', node.inputs, node.outputs);
  },
  gradient: (node, [dy]) => [Mul(dy!, node.outputs[0]!)],
};

/** e^x. Shape of x is kept. */
export function Exp(x: Value): Value {
  return apply(EXP, [x], null);
}
