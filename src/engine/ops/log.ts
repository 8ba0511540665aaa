import { apply, type Operator, type Value } from '../autodiff/graph.ts';
import { Div } from './div.ts';
import { like } from './shapes.ts';

export const LOG: Operator<null> = {
  type: 'Log',
  infer: (inputs) => like('Log', inputs),
  emit: (node, emitter) => {
    emitter.op('Log', node.inputs, node.outputs);
  },
  gradient: (node, [dy]) => [Div(dy!, node.inputs[0]!)],
};

/** Natural logarithm. Shape of x is kept. */
export function Log(x: Value): Value {
  return apply(LOG, [x], null);
}
