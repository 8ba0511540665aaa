import { apply, type Operator, type Value } from '../autodiff/graph.ts';
import { like } from './shapes.ts';

/** Emitted as Identity; named for what it means, since an Identity would pass the gradient. */
export const STOP_GRADIENT: Operator<null> = {
  type: 'StopGradient',
  infer: (inputs) => like('StopGradient', inputs),
  emit: (node, emitter) => {
    emitter.op('Identity', node.inputs, node.outputs);
  },
  gradient: { zero: 'the value is to count as a constant' },
};

/** x as a constant: the value of x, and no gradient. Shape of x is kept. */
export function StopGradient(x: Value): Value {
  return apply(STOP_GRADIENT, [x], null);
}
