/**
 * Low-rank adapters: which layers get one, their matrices as parameters, and merging them into the base's weights.
 *
 * @see Hu et al. 2021, arXiv:2106.09685; Kalajdzievski 2023, arXiv:2312.03732 (rank-stabilised scale)
 */
import type { ParameterSpec } from '../models/qwen2_5_vl/parameters.ts';
import type { LoraLayer } from '../nn/model-graph.ts';
import type { ParameterStore, StoredParameter } from '../optim/parameter-store.ts';
import { RandomStream } from '../random.ts';
import type { HostTensor } from '../tensor.ts';
import { toFloat32 } from '../weights/convert.ts';
import type { LinearModule } from './target-modules.ts';

export interface LoraSettings {
  readonly rank: number;
  /** The update is scaled by alpha / rank, or alpha / sqrt(rank) where it is rank-stabilised. */
  readonly alpha: number;
  /** Share of a layer's inputs that the adapter does not see in a training step. */
  readonly dropout: number;
  readonly isRankStabilised: boolean;
}

export function loraLayer({ rank, alpha, dropout, isRankStabilised }: LoraSettings): LoraLayer {
  return { rank, scale: alpha / (isRankStabilised ? Math.sqrt(rank) : rank), dropout };
}

/** Canonical names of the two matrices of a layer's adapter. */
export function loraNames(module: string): { readonly a: string; readonly b: string } {
  return { a: `${module}.lora_A.weight`, b: `${module}.lora_B.weight` };
}

/** A [rank, in] and B [out, rank] of every layer with an adapter. */
export function loraParameters(
  modules: readonly LinearModule[],
  layers: ReadonlyMap<string, LoraLayer>,
): StoredParameter[] {
  return modules.flatMap(({ name, inputSize, outputSize }) => {
    const layer = layers.get(name);
    if (!layer) return [];
    const { a, b } = loraNames(name);
    return [
      { name: a, shape: [layer.rank, inputSize], decay: true },
      { name: b, shape: [outputSize, layer.rank], decay: true },
    ];
  });
}

/** A uniform in +-1 / sqrt(in), B zero, as PEFT starts: the adapted model begins as the base. */
export function initialiseLora(store: ParameterStore, seed: number): void {
  for (const { name, shape } of store.parameters) {
    const { data } = store.tensor(name);
    if (!name.endsWith('.lora_A.weight')) {
      data.fill(0);
      continue;
    }
    const bound = 1 / Math.sqrt(shape[1]!);
    const stream = new RandomStream(seed, 'lora', name);
    for (let i = 0; i < data.length; i++) data[i] = stream.between(-bound, bound);
  }
}

/**
 * W + scale * B A in float32.
 *
 * weight [out, in], a [rank, in], b [out, rank] -> [out, in]; sums over the rank are taken in float64
 */
export function mergedWeight(weight: HostTensor, a: HostTensor, b: HostTensor, { rank, scale }: LoraLayer) {
  const merged = toFloat32(weight).slice();
  const [rows, columns] = weight.shape as readonly [number, number];
  const down = toFloat32(a);
  const up = toFloat32(b);
  const sum = new Float64Array(columns);
  for (let o = 0; o < rows; o++) {
    sum.fill(0);
    for (let r = 0; r < rank; r++) {
      const factor = scale * up[o * rank + r]!;
      const from = r * columns;
      for (let i = 0; i < columns; i++) sum[i] = sum[i]! + factor * down[from + i]!;
    }
    const at = o * columns;
    for (let i = 0; i < columns; i++) merged[at + i] = merged[at + i]! + sum[i]!;
  }
  return { dtype: 'float32', shape: weight.shape, data: merged } as const satisfies HostTensor;
}

/** Weights of a model without adapters, read one at a time: each with its adapter merged in. */
export function mergedTensor(
  { name }: Pick<ParameterSpec, 'name'>,
  find: (name: string) => HostTensor,
  layers: ReadonlyMap<string, LoraLayer>,
): HostTensor {
  const module = name.replace(/\.weight$/, '');
  const layer = layers.get(module);
  if (!layer || module === name) return find(name);
  const { a, b } = loraNames(module);
  return mergedWeight(find(name), find(a), find(b), layer);
}
