import { apply, type Operator, type Value } from '../autodiff/graph.ts';
import { Div } from './div.ts';
import { Mul } from './mul.ts';
import { like } from './shapes.ts';

export const SQRT: Operator<null> = {
  type: 'Sqrt',
  infer: (inputs) => like('Sqrt', inputs),
  emit: (node, emitter) => {
    emitter.op('Sqrt', node.inputs, node.outputs);
  },
  gradient: (node, [dy]) => [Div(Mul(dy!, dy!.graph.scalar(0.5)), node.outputs[0]!)],
};

/** Square root. Shape of x is kept. */
export function Sqrt(x: Value): Value {
  return apply(SQRT, [x], null);
}
