import { apply, type Operator, type Value } from '../autodiff/graph.ts';
import { ONNX_DTYPE } from '../onnx/proto.ts';
import type { DType } from '../tensor.ts';

const FLOATS: ReadonlySet<DType> = new Set<DType>(['float32', 'float16', 'bfloat16']);

export const CAST: Operator<{ to: DType }> = {
  type: 'Cast',
  infer: ([x], { to }) => [{ dtype: to, shape: x!.shape }],
  emit: (node, emitter) => {
    emitter.op('Cast', node.inputs, node.outputs, { attributes: { to: ONNX_DTYPE[node.attributes.to] } });
  },
  gradient: (node, [dy]) => {
    const from = node.inputs[0]!.dtype;
    return [FLOATS.has(from) && FLOATS.has(node.attributes.to) ? Cast(dy!, from) : null];
  },
};

/** Converts the element type; the gradient passes between float types and is none elsewhere. */
export function Cast(x: Value, to: DType): Value {
  return x.dtype === to ? x : apply(CAST, [x], { to });
}
