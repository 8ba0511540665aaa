import { apply, type Operator, type Value } from '../autodiff/graph.ts';
import { Add } from './add.ts';
import { Mul } from './mul.ts';
import { like } from './shapes.ts';
import { Sigmoid } from './sigmoid.ts';
import { Sub } from './sub.ts';

export const SILU: Operator<null> = {
  type: 'Silu',
  infer: (inputs) => like('Silu', inputs),
  emit: (node, emitter) => {
    emitter.op('QuickGelu', node.inputs, node.outputs, {
      domain: 'com.microsoft',
      attributes: { alpha: { float: 1 } },
    });
  },
  gradient: (node, [dy]) => {
    // With h = x s and s = sigmoid(x): dh/dx = s + h - h s.
    const h = node.outputs[0]!;
    const s = Sigmoid(node.inputs[0]!);
    return [Mul(dy!, Sub(Add(s, h), Mul(h, s)))];
  },
};

/** x * sigmoid(x), Qwen's feed-forward activation. Shape of x is kept. */
export function Silu(x: Value): Value {
  return apply(SILU, [x], null);
}
