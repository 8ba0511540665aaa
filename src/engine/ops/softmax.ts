import { apply, type Operator, type Value } from '../autodiff/graph.ts';
import { Mul } from './mul.ts';
import { ReduceSum } from './reduce-sum.ts';
import { like } from './shapes.ts';
import { Sub } from './sub.ts';

export const SOFTMAX: Operator<null> = {
  type: 'Softmax',
  infer: (inputs) => like('Softmax', inputs),
  emit: (node, emitter) => {
    emitter.op('Softmax', node.inputs, node.outputs, { attributes: { axis: -1 } });
  },
  gradient: (node, [dy]) => {
    // dx = p (dp - sum(dp p))
    const p = node.outputs[0]!;
    const weighted = Mul(dy!, p);
    return [Sub(weighted, Mul(p, ReduceSum(weighted, [-1], { keepDims: true })))];
  },
};

/** Softmax over the last axis. */
export function Softmax(x: Value): Value {
  return apply(SOFTMAX, [x], null);
}
