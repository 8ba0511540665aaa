/**
 * Low-rank adapters: which layers get one, their matrices as parameters, and merging them into the base's weights.
 *
 * @see Hu et al. 2021, arXiv:2106.09685; Kalajdzievski 2023, arXiv:2312.03732 (rank-stabilised scale)
 */
import type { LoraLayer } from '../nn/model-graph.ts';
import type { StoredParameter } from '../optim/parameter-store.ts';
import { RandomStream } from '../random.ts';
import { float32, type HostTensor } from '../tensor.ts';
import { type FloatDType, toFloat32 } from '../weights/convert.ts';
import type { LinearModule } from './target-modules.ts';

const A = '.lora_A.weight';
const B = '.lora_B.weight';

/** The adapter of a model. */
export interface Adapter {
  /** By canonical name of the linear layer. */
  readonly layers: ReadonlyMap<string, LoraLayer>;
  readonly isRankStabilised: boolean;
  /** Both matrices of every layer, by the names of {@link loraNames}. */
  find(name: string): HostTensor<FloatDType> | undefined;
}

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
  return { a: `${module}${A}`, b: `${module}${B}` };
}

/** A [rank, in] and B [out, rank] of every layer with an adapter. */
export function loraParameters(
  modules: readonly LinearModule[],
  layers: ReadonlyMap<string, LoraLayer>,
): StoredParameter[] {
  return modules.flatMap(({ name, inputSize, outputSize, tower }) => {
    const layer = layers.get(name);
    if (!layer) return [];
    const { a, b } = loraNames(name);
    const needsImages = tower !== 'text';
    return [
      { name: a, shape: [layer.rank, inputSize], decay: true, needsImages },
      { name: b, shape: [outputSize, layer.rank], decay: true, needsImages },
    ];
  });
}

/** A uniform in +-1 / sqrt(in), B zero, as PEFT starts: the adapted model begins as the base. */
export function startAdapter(modules: readonly LinearModule[], settings: LoraSettings, seed: number): Adapter {
  const layer = loraLayer(settings);
  const layers = new Map(modules.map(({ name }) => [name, layer]));
  const tensors = new Map(
    loraParameters(modules, layers).map(({ name, shape }) => {
      const tensor = float32(shape);
      if (name.endsWith(A)) {
        const bound = 1 / Math.sqrt(shape[1]!);
        const stream = new RandomStream(seed, 'lora', name);
        for (let i = 0; i < tensor.data.length; i++) tensor.data[i] = stream.between(-bound, bound);
      }
      return [name, tensor] as const;
    }),
  );
  return { layers, isRankStabilised: settings.isRankStabilised, find: (name) => tensors.get(name) };
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

/** A weight of the model without adapters: that of the base with its adapter added, where the layer has one. */
export function mergedTensor(
  name: string,
  find: (name: string) => HostTensor,
  layers: ReadonlyMap<string, LoraLayer>,
): HostTensor {
  const layer = layers.get(moduleOf(name));
  if (!layer) return find(name);
  const { a, b } = loraNames(moduleOf(name));
  return mergedWeight(find(name), find(a), find(b), layer);
}

/** The linear layer whose weight has that name; for other weights the name itself, which no layer has. */
export function moduleOf(name: string): string {
  return name.replace(/\.weight$/, '');
}
