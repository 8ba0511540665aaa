import type { Operator, Value } from '../autodiff/graph.ts';
import { Mul } from './mul.ts';
import { ReduceMean } from './reduce-mean.ts';
import { requireFloat, shapeMismatch } from './shapes.ts';
import { Sub } from './sub.ts';
import { sumTo } from './sum-to.ts';

export const RMS_NORM: Operator<{ epsilon: number }> = {
  type: 'RmsNorm',
  infer: (inputs) => {
    requireFloat('RmsNorm', inputs);
    const [x, gain] = inputs as [Value, Value];
    if (gain.rank !== 1 || gain.dim(0) !== x.dim(-1)) {
      throw shapeMismatch('RmsNorm', inputs, `the gain must be [${x.dim(-1)}]`);
    }
    return [
      { dtype: 'float32', shape: x.shape },
      { dtype: 'float32', shape: [...x.shape.slice(0, -1), 1] },
    ];
  },
  emit: (node, emitter) => {
    const [x, gain] = node.inputs as [Value, Value];
    const [y, inverse] = node.outputs as [Value, Value];
    const { epsilon } = node.attributes;
    if (emitter.provider !== 'webgpu') {
      emitter.op('SimplifiedLayerNormalization', [x, gain], [y, inverse], {
        attributes: { axis: -1, epsilon: { float: epsilon }, stash_type: 1 },
      });
      return;
    }
    // NOTE: WebGPU's SimplifiedLayerNormalization returns a wrong second output, which the gradient needs.
    const [square] = emitter.op('Mul', [x, x]);
    const [mean] = emitter.op('ReduceMean', [square!, emitter.ints([-1])], 1, { attributes: { keepdims: 1 } });
    const [shifted] = emitter.op('Add', [mean!, emitter.scalar(epsilon)]);
    const [root] = emitter.op('Sqrt', [shifted!]);
    emitter.op('Reciprocal', [root!], [inverse]);
    const [normal] = emitter.op('Mul', [x, inverse]);
    emitter.op('Mul', [normal!, gain], [y]);
  },
  gradient: (node, [dy]) => {
    // With n = x r and r = 1 / rms: dgain = sum(dy n), dx = r (g - n mean(g n)) where g = dy gain.
    const [x, gain] = node.inputs as [Value, Value];
    const inverse = node.outputs[1]!;
    const normal = Mul(x, inverse);
    const scaled = Mul(dy!, gain);
    const mean = ReduceMean(Mul(scaled, normal), [-1], { keepDims: true });
    return [Mul(inverse, Sub(scaled, Mul(normal, mean))), sumTo(Mul(dy!, normal), gain.shape)];
  },
};

/**
 * Root-mean-square normalisation over the last axis: y = x / sqrt(mean(x^2) + epsilon) * gain.
 *
 * x [..., C], gain [C] -> [..., C]
 *
 * @throws SHAPE_MISMATCH when gain is not [C]
 * @see Zhang & Sennrich 2019, arXiv:1910.07467
 */
export function RmsNorm(x: Value, gain: Value, epsilon: number): Value {
  return x.graph.apply(RMS_NORM, [x, gain], { epsilon })[0]!;
}
