/** Random weights for a model that is trained from scratch. */

import type { ParameterStore } from '../../optim/parameter-store.ts';
import { RandomStream } from '../../random.ts';
import { sizeOf } from '../../tensor.ts';
import type { TensorSource } from '../../weights/safetensors.ts';
import type { Qwen25VLConfig } from './config.ts';
import { type ParameterSpec, parameterSpecs } from './parameters.ts';

/** Standard deviation of token embeddings. */
const EMBEDDING_SCALE = 0.05;

/**
 * Matrices N(0, 1 / fan-in), those that write into the residual stream divided by sqrt(2 layers); gains 1, biases 0.
 */
export function initialiseWeights(store: ParameterStore, config: Qwen25VLConfig, seed: number): void {
  for (const spec of parameterSpecs(config)) {
    const { data } = store.tensor(spec.name);
    const scale = deviation(spec, config);
    if (scale === 0) {
      data.fill(constantOf(spec));
      continue;
    }
    const stream = new RandomStream(seed, 'initialise', spec.name);
    for (let i = 0; i < data.length; i++) data[i] = scale * stream.normal();
  }
}

/** Standard deviation of a weight's elements; 0 for those that start as a constant. */
function deviation({ name, shape, kind, tower }: ParameterSpec, config: Qwen25VLConfig): number {
  if (kind === 'vector') return 0;
  if (kind === 'embedding') return EMBEDDING_SCALE;
  const fanIn = shape.slice(1).reduce((product, dim) => product * dim, 1);
  const layers = tower === 'text' ? config.text.numHiddenLayers : config.vision.depth;
  const writesResidual = /(o_proj|down_proj|attn\.proj)\.weight$/.test(name);
  return 1 / Math.sqrt(fanIn * (writesResidual ? 2 * layers : 1));
}

function constantOf({ name }: ParameterSpec): number {
  return name.endsWith('.bias') ? 0 : 1;
}

/** Elements of a piece. */
const PIECE = 1 << 20;

/**
 * Weights of the same distribution for models of billions of them, made piece by piece: normal numbers are taken from a
 * table of 65536 quantiles, two per word of a xorshift generator. For dry runs; good enough to start a training from,
 * but not the numbers of {@link initialiseWeights}.
 */
export function randomWeightSources(config: Qwen25VLConfig, seed: number): TensorSource[] {
  return parameterSpecs(config).map((spec) => ({
    name: spec.name,
    shape: spec.shape,
    pieces: () => randomPieces(sizeOf(spec.shape), deviation(spec, config), constantOf(spec), seed, spec.name),
  }));
}

function* randomPieces(
  size: number,
  scale: number,
  constant: number,
  seed: number,
  name: string,
): Iterable<Float32Array> {
  const values = scale === 0 ? null : Float32Array.from(normalQuantiles(), (value) => scale * value);
  const stream = new RandomStream(seed, 'dry run', name);
  let [a, b, c, d] = [stream.uint32(), stream.uint32(), stream.uint32(), stream.uint32() | 1];
  for (let start = 0; start < size; start += PIECE) {
    const piece = new Float32Array(Math.min(PIECE, size - start));
    if (values === null) piece.fill(constant);
    else {
      for (let i = 0; i < piece.length; i += 2) {
        // xorshift128 (Marsaglia 2003)
        let t = d;
        const s = a;
        [d, c, b] = [c, b, s];
        t ^= t << 11;
        t ^= t >>> 8;
        a = t ^ s ^ (s >>> 19);
        piece[i] = values[a & 0xffff]!;
        if (i + 1 < piece.length) piece[i + 1] = values[a >>> 16]!;
      }
    }
    yield piece;
  }
}

let quantiles: Float64Array | undefined;

/** 65536 equally likely values of the standard normal distribution, by Acklam's approximation of its quantiles. */
function normalQuantiles(): Float64Array {
  quantiles ??= Float64Array.from({ length: 65536 }, (_, i) => normalQuantile((i + 0.5) / 65536));
  return quantiles;
}

/** @see Acklam 2003, "An algorithm for computing the inverse normal cumulative distribution function" */
function normalQuantile(p: number): number {
  if (p > 0.5) return -normalQuantile(1 - p);
  if (p < 0.02425) {
    const q = Math.sqrt(-2 * Math.log(p));
    return (
      (((((-7.784894002430293e-3 * q - 0.3223964580411365) * q - 2.400758277161838) * q - 2.549732539343734) * q +
        4.374664141464968) *
        q +
        2.938163982698783) /
      ((((7.784695709041462e-3 * q + 0.3224671290700398) * q + 2.445134137142996) * q + 3.754408661907416) * q + 1)
    );
  }
  const q = p - 0.5;
  const r = q * q;
  return (
    ((((((-39.69683028665376 * r + 220.9460984245205) * r - 275.9285104469687) * r + 138.357751867269) * r -
      30.66479806614716) *
      r +
      2.506628277459239) *
      q) /
    (((((-54.47609879822406 * r + 161.5858368580409) * r - 155.6989798598866) * r + 66.80131188771972) * r -
      13.28068155288572) *
      r +
      1)
  );
}
