import { apply, type Operator, type Value } from '../autodiff/graph.ts';
import { Add } from './add.ts';
import { Erf } from './erf.ts';
import { Exp } from './exp.ts';
import { Mul } from './mul.ts';
import { like } from './shapes.ts';

export const GELU: Operator<null> = {
  type: 'Gelu',
  infer: (inputs) => like('Gelu', inputs),
  emit: (node, emitter) => {
    emitter.op('Gelu', node.inputs, node.outputs, { domain: 'com.microsoft' });
  },
  gradient: (node, [dy]) => {
    // d/dx [x Phi(x)] = Phi(x) + x phi(x)
    const x = node.inputs[0]!;
    const { graph } = x;
    const half = graph.scalar(0.5);
    const cumulative = Add(Mul(Erf(Mul(x, graph.scalar(Math.SQRT1_2))), half), half);
    const density = Mul(Exp(Mul(Mul(x, x), graph.scalar(-0.5))), graph.scalar(1 / Math.sqrt(2 * Math.PI)));
    return [Mul(dy!, Add(cumulative, Mul(x, density)))];
  },
};

/** x * Phi(x) with the exact normal distribution function, as in the vision merger. Shape of x is kept. */
export function Gelu(x: Value): Value {
  return apply(GELU, [x], null);
}
