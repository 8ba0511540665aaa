/** Layers that models share. */
import type { Value } from '../autodiff/graph.ts';
import { Add } from '../ops/add.ts';
import { Gemm } from '../ops/gemm.ts';
import { Mul } from '../ops/mul.ts';
import { Split } from '../ops/split.ts';
import { Transpose } from '../ops/transpose.ts';
import { dropout } from './dropout.ts';
import type { LoraLayer, ModelGraph } from './model-graph.ts';

/** Outputs from which on it pays to put the weight first and to turn the product: 64 gain as much as the turning takes. */
const WIDE = 128;

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
  const product = rowsTimes(graph, x, weight);
  const y = options.bias ? Add(product, graph.weight(`${name}.bias`, [outputSize])) : product;
  return adapted(graph, x, y, name, outputSize);
}

/** x W^T: x [N, in], weight [out, in] -> [N, out] */
export function rowsTimes(graph: ModelGraph, x: Value, weight: Value): Value {
  const isWide = Number(weight.dim(0)) >= WIDE;
  if (graph.weightsFirst && isWide) return Transpose(Gemm(weight, x, { transB: true }), [1, 0]);
  return Gemm(x, weight, { transB: true });
}

/**
 * A layer without a bias, with its rows laid out as columns: y = W x^T.
 *
 * x [N, in], or [in, N] with `isTurned` -> [out, N]
 */
export function linearByColumns(
  graph: ModelGraph,
  x: Value,
  name: string,
  outputSize: number,
  { isTurned = false }: { isTurned?: boolean } = {},
): Value {
  const inputSize = x.dim(isTurned ? 0 : 1);
  const product = Gemm(graph.weight(`${name}.weight`, [outputSize, inputSize]), x, { transB: !isTurned });
  const adapter = graph.adapterOf(name);
  if (!adapter) return product;
  const { rank, scale } = adapter;
  const inner = Gemm(graph.weight(`${name}.lora_A.weight`, [rank, inputSize]), x, { transB: !isTurned });
  const b = graph.weight(`${name}.lora_B.weight`, [outputSize, rank]);
  return Add(product, Gemm(b, Mul(inner, graph.scalar(scale))));
}

/**
 * Layers that read the same input. Where the graph takes their weights joined, this is one product, of weights
 * `${names.join('+')}.weight` [sum of sizes, in] and biases likewise.
 *
 * @param layers name and output size of each
 */
export function linears(
  graph: ModelGraph,
  x: Value,
  layers: readonly (readonly [name: string, outputSize: number])[],
  options: { bias?: boolean } = {},
): readonly Value[] {
  if (!graph.joinsWeights) return layers.map(([name, size]) => linear(graph, x, name, size, options));
  const name = layers.map(([layer]) => layer).join('+');
  const sizes = layers.map(([, size]) => size);
  const total = sizes.reduce((sum, size) => sum + size, 0);
  const product = Gemm(x, graph.parameter(`${name}.weight`, [total, x.dim(1)]), { transB: true });
  const y = options.bias ? Add(product, graph.parameter(`${name}.bias`, [total])) : product;
  return Split(y, 1, sizes).map((part, i) => adapted(graph, x, part, ...layers[i]!));
}

/** The names of the weights that a name of `linears()` joins; of any other name itself. */
export function partsOfJoined(name: string): string[] {
  const kind = name.slice(name.lastIndexOf('.'));
  return name
    .slice(0, -kind.length)
    .split('+')
    .map((layer) => layer + kind);
}

function adapted(graph: ModelGraph, x: Value, y: Value, name: string, outputSize: number): Value {
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
