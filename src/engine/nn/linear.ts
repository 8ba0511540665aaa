/** Layers that models share. */
import type { Value } from '../autodiff/graph.ts';
import { Add } from '../ops/add.ts';
import { Gemm } from '../ops/gemm.ts';
import type { ModelGraph } from './model-graph.ts';

/**
 * y = x W^T + b, with the weight stored as Hugging Face stores it.
 *
 * x [N, in], `${name}.weight` [out, in], `${name}.bias` [out] where `bias` is set -> [N, out]
 */
export function linear(
  graph: ModelGraph,
  x: Value,
  name: string,
  outputSize: number,
  options: { bias?: boolean } = {},
): Value {
  const weight = graph.weight(`${name}.weight`, [outputSize, x.dim(1)]);
  const y = Gemm(x, weight, { transB: true });
  return options.bias ? Add(y, graph.weight(`${name}.bias`, [outputSize])) : y;
}
