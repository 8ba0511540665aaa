/** Layers that models share. */
import type { Graph, Value } from '../autodiff/graph.ts';
import { Add } from '../ops/add.ts';
import { Gemm } from '../ops/gemm.ts';

/**
 * y = x W^T + b, with the weight stored as Hugging Face stores it.
 *
 * x [N, in], `${name}.weight` [out, in], `${name}.bias` [out] where `bias` is set -> [N, out]
 */
export function linear(
  graph: Graph,
  x: Value,
  name: string,
  outputSize: number,
  options: { bias?: boolean } = {},
): Value {
  const weight = graph.parameter(`${name}.weight`, [outputSize, x.dim(1)]);
  const y = Gemm(x, weight, { transB: true });
  return options.bias ? Add(y, graph.parameter(`${name}.bias`, [outputSize])) : y;
}
