import { type Dim, multiplyDims } from '../autodiff/dim.ts';
import { apply, type Operator, type Value } from '../autodiff/graph.ts';
import { Neg } from './neg.ts';
import { requireFloat, shapeMismatch } from './shapes.ts';

export const ROTARY_EMBEDDING: Operator<null> = {
  type: 'RotaryEmbedding',
  infer: (inputs) => {
    requireFloat('RotaryEmbedding', inputs);
    const [x, cos, sin] = inputs as [Value, Value, Value];
    const width = x.dim(3);
    const fits = (angle: Value) =>
      angle.rank === 3 && angle.dim(0) === x.dim(0) && angle.dim(1) === x.dim(2) && angle.dim(2) === Number(width) / 2;
    if (x.rank !== 4 || !fits(cos) || !fits(sin)) {
      throw shapeMismatch('RotaryEmbedding', inputs, 'x is [B, H, T, D], cos and sin are [B, T, D/2]');
    }
    return [{ dtype: 'float32', shape: x.shape }];
  },
  emit: (node, emitter) => {
    if (emitter.provider !== 'webgpu') {
      emitter.op('RotaryEmbedding', node.inputs, node.outputs);
      return;
    }
    // NOTE: where no positions are given, WebGPU makes them anew for every call, in a kernel of its own.
    const [x, cos, sin] = node.inputs as [Value, Value, Value];
    const [batch, tokens, half] = cos.shape as readonly [Dim, Dim, number];
    const table = (angle: Value) =>
      emitter.once(`table of ${emitter.name(angle)}`, () => {
        const target = emitter.reshapeTarget([multiplyDims(batch, tokens), half], angle.shape);
        return emitter.op('Reshape', [angle, target])[0]!;
      });
    emitter.op('RotaryEmbedding', [x, table(cos), table(sin), emitter.places([batch, tokens])], node.outputs);
  },
  // A rotation's transpose is the rotation by the opposite angle.
  gradient: (node, [dy]) => [RotaryEmbedding(dy!, node.inputs[1]!, Neg(node.inputs[2]!)), null, null],
};

/**
 * Rotates the pairs (i, i + D/2) of each head by the given angles.
 *
 * x [B, H, T, D], cos and sin [B, T, D/2], which are data without gradient -> [B, H, T, D]
 *
 * @see Su et al. 2021, arXiv:2104.09864; the half-split layout of Hugging Face's rotate_half
 */
export function RotaryEmbedding(x: Value, cos: Value, sin: Value): Value {
  return apply(ROTARY_EMBEDDING, [x, cos, sin], null);
}
