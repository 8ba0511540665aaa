import { apply, type Operator, type Value } from '../autodiff/graph.ts';
import { Mul } from './mul.ts';
import { Neg } from './neg.ts';
import { like } from './shapes.ts';

export const RECIPROCAL: Operator<null> = {
  type: 'Reciprocal',
  infer: (inputs) => like('Reciprocal', inputs),
  emit: (node, emitter) => {
    emitter.op('Reciprocal', node.inputs, node.outputs);
  },
  gradient: (node, [dy]) => [Neg(Mul(dy!, Mul(node.outputs[0]!, node.outputs[0]!)))],
};

/** 1 / x. Shape of x is kept. */
export function Reciprocal(x: Value): Value {
  return apply(RECIPROCAL, [x], null);
}
