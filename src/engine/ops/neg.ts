import { apply, type Operator, type Value } from '../autodiff/graph.ts';
import { like } from './shapes.ts';

export const NEG: Operator<null> = {
  type: 'Neg',
  infer: (inputs) => like('Neg', inputs),
  emit: (node, emitter) => {
    emitter.op('Neg', node.inputs, node.outputs);
  },
  gradient: (_, [dy]) => [Neg(dy!)],
};

/** -x. Shape of x is kept. */
export function Neg(x: Value): Value {
  return apply(NEG, [x], null);
}
