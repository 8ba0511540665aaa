/** Layers that models share. */
import type { Value } from '../autodiff/graph.ts';
import { Add } from '../ops/add.ts';
import { Gemm } from '../ops/gemm.ts';
import { Mul } from '../ops/mul.ts';
import { dropout } from './dropout.ts';
import type { LoraLayer, ModelGraph } from './model-graph.ts';

/**
 * y = x W^T + b, with the weight stored as Hugging Face stores it, and the layer's adapter where it has one.
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
  const product = Gemm(x, weight, { transB: true });
  const y = options.bias ? Add(product, graph.weight(`${name}.bias`, [outputSize])) : product;
  const adapter = graph.adapterOf(name);
  return adapter ? Add(y, lowRankUpdate(graph, x, name, outputSize, adapter)) : y;
}

/**
 * scale * (dropout(x) A^T) B^T.
 *
 * x [N, in], `${name}.lora_A.weight` [rank, in], `${name}.lora_B.weight` [out, rank] -> [N, out]
 *
 * @see Hu et al. 2021, arXiv:2106.09685
 */
function lowRankUpdate(graph: ModelGraph, x: Value, name: string, outputSize: number, adapter: LoraLayer): Value {
  const { rank, scale } = adapter;
  const a = graph.weight(`${name}.lora_A.weight`, [rank, x.dim(1)]);
  const b = graph.weight(`${name}.lora_B.weight`, [outputSize, rank]);
  const inner = Gemm(dropout(graph, x, adapter.dropout, name), a, { transB: true });
  return Gemm(Mul(inner, graph.scalar(scale)), b, { transB: true });
}
