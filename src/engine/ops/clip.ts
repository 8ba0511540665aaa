import { apply, type Operator, type Value } from '../autodiff/graph.ts';
import { Cast } from './cast.ts';
import { Less } from './less.ts';
import { Mul } from './mul.ts';
import { like } from './shapes.ts';
import { Sub } from './sub.ts';

export const CLIP: Operator<{ low: number; high: number }> = {
  type: 'Clip',
  infer: (inputs) => like('Clip', inputs),
  emit: (node, emitter) => {
    const { low, high } = node.attributes;
    emitter.op('Clip', [node.inputs[0]!, emitter.scalar(low), emitter.scalar(high)], node.outputs);
  },
  gradient: (node, [dy]) => {
    // The boundary itself passes the gradient, as in PyTorch.
    const x = node.inputs[0]!;
    const { low, high } = node.attributes;
    const one = x.graph.scalar(1);
    const aboveLow = Sub(one, Cast(Less(x, x.graph.scalar(low)), 'float32'));
    const belowHigh = Sub(one, Cast(Less(x.graph.scalar(high), x), 'float32'));
    return [Mul(dy!, Mul(aboveLow, belowHigh))];
  },
};

/** min(max(x, low), high). */
export function Clip(x: Value, low: number, high: number): Value {
  return apply(CLIP, [x], { low, high });
}
