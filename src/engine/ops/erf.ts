import { apply, type Operator, type Value } from '../autodiff/graph.ts';
import { Exp } from './exp.ts';
import { Mul } from './mul.ts';
import { Neg } from './neg.ts';
import { like } from './shapes.ts';

export const ERF: Operator<null> = {
  type: 'Erf',
  infer: (inputs) => like('Erf', inputs),
  emit: (node, emitter) => {
    emitter.op('Erf', node.inputs, node.outputs);
  },
  gradient: (node, [dy]) => {
    const x = node.inputs[0]!;
    return [Mul(dy!, Mul(Exp(Neg(Mul(x, x))), x.graph.scalar(2 / Math.sqrt(Math.PI))))];
  },
};

/** Error function 2/sqrt(pi) * integral of e^(-t^2) from 0 to x. Shape of x is kept. */
export function Erf(x: Value): Value {
  return apply(ERF, [x], null);
}
