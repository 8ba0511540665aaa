/**
 * The vision tower of Qwen2.5-VL as a graph: patches in window order in, one embedding per merged 2x2 unit out, still in
 * window order (the caller's slot index undoes the permutation).
 *
 * Attention runs over segments (a window, or an image) laid out as [segments, size]. `uniform` is for images whose
 * windows are all full and equal, so that the layout is a reshape; otherwise rows are gathered into padded segments.
 */
import { type Dim, multiplyDims } from '../../autodiff/dim.ts';
import type { Graph, Value } from '../../autodiff/graph.ts';
import { attention, joinHeads, splitHeads } from '../../nn/attention.ts';
import { linear } from '../../nn/linear.ts';
import type { ModelGraph } from '../../nn/model-graph.ts';
import { Add } from '../../ops/add.ts';
import { GatherRows } from '../../ops/gather-rows.ts';
import { Gelu } from '../../ops/gelu.ts';
import { Gemm } from '../../ops/gemm.ts';
import { Reshape } from '../../ops/reshape.ts';
import { RmsNorm } from '../../ops/rms-norm.ts';
import { RotaryEmbedding } from '../../ops/rotary-embedding.ts';
import { Split } from '../../ops/split.ts';
import type { Qwen25VLVisionConfig } from './config.ts';
import { feedForward } from './text.ts';

/** How patches are laid out for one kind of attention. */
export interface SegmentInputs {
  readonly count: Dim;
  readonly size: Dim;
  /** Rotary angles [count, size, D/2]. */
  readonly cos: Value;
  readonly sin: Value;
  /** null when segments are a reshape of the patches. */
  readonly padded: {
    /** Patch of every slot, P for padding [count*size], and the uses of each patch [P, 1]. */
    readonly gather: Value;
    readonly gatherUses: Value;
    /** Slot of every patch [P], and the uses of each slot [count*size, 1]. */
    readonly scatter: Value;
    readonly scatterUses: Value;
    /** 0 for a patch, a large negative number for padding [count, 1, 1, size]. */
    readonly bias: Value;
  } | null;
}

export interface VisionInputs {
  /** Patches in window order [4*M, in*2*14*14]. */
  readonly pixels: Value;
  readonly windows: SegmentInputs;
  readonly images: SegmentInputs;
}

export type VisionLayoutKind = 'uniform' | 'padded';

/** Named sizes: M merged units; I images of W windows of 4*U patches (uniform), or W windows of S and I images of L slots. */
export function visionInputs(graph: Graph, config: Qwen25VLVisionConfig, kind: VisionLayoutKind): VisionInputs {
  const merge = config.spatialMergeSize ** 2;
  const patches = kind === 'uniform' ? multiplyDims(merge, 'I', 'W', 'U') : multiplyDims(merge, 'M');
  const patchWidth = config.inChannels * config.temporalPatchSize * config.patchSize ** 2;
  const segments = (name: string, count: Dim, size: Dim): SegmentInputs => ({
    count,
    size,
    cos: graph.input(`${name}_cos`, 'float32', [count, size, config.headDim / 2]),
    sin: graph.input(`${name}_sin`, 'float32', [count, size, config.headDim / 2]),
    padded:
      kind === 'uniform'
        ? null
        : {
            gather: graph.input(`${name}_gather`, 'int32', [multiplyDims(count, size)]),
            gatherUses: graph.input(`${name}_gather_uses`, 'int32', [patches, 1]),
            scatter: graph.input(`${name}_scatter`, 'int32', [patches]),
            scatterUses: graph.input(`${name}_scatter_uses`, 'int32', [multiplyDims(count, size), 1]),
            bias: graph.input(`${name}_bias`, 'float32', [count, 1, 1, size]),
          },
  });
  const pixels = graph.input('pixels', 'float32', [patches, patchWidth]);
  return kind === 'uniform'
    ? {
        pixels,
        windows: segments('windows', multiplyDims('I', 'W'), multiplyDims(merge, 'U')),
        images: segments('images', 'I', multiplyDims(merge, 'W', 'U')),
      }
    : { pixels, windows: segments('windows', 'W', 'S'), images: segments('images', 'I', 'L') };
}

/** Embeddings of the merged units [M, out] in window order. */
export function visionModel(graph: ModelGraph, config: Qwen25VLVisionConfig, inputs: VisionInputs): Value {
  let hidden = patchEmbeddings(graph, config, inputs);
  for (let i = 0; i < config.depth; i++) hidden = visionBlock(graph, config, i, hidden, inputs);
  return mergedUnits(graph, config, hidden);
}

/** pixels [P, in*2*14*14] -> [P, C] */
export function patchEmbeddings(graph: ModelGraph, config: Qwen25VLVisionConfig, { pixels }: VisionInputs): Value {
  const { hiddenSize, inChannels, temporalPatchSize, patchSize } = config;
  const shape = [hiddenSize, inChannels, temporalPatchSize, patchSize, patchSize];
  const kernel = graph.weight('visual.patch_embed.proj.weight', shape);
  return Gemm(pixels, Reshape(kernel, [hiddenSize, pixels.dim(1)]), { transB: true });
}

/** One block: [P, C] -> [P, C]. */
export function visionBlock(
  graph: ModelGraph,
  config: Qwen25VLVisionConfig,
  index: number,
  hidden: Value,
  inputs: VisionInputs,
): Value {
  const name = `visual.blocks.${index}`;
  const segments = config.fullattBlockIndexes.includes(index) ? inputs.images : inputs.windows;
  return graph.scope(name, () => block(graph, config, name, hidden, segments));
}

/** Patches to one embedding per merged unit: [P, C] -> [M, out]. */
export function mergedUnits(graph: ModelGraph, config: Qwen25VLVisionConfig, hidden: Value): Value {
  const { hiddenSize, rmsNormEps, spatialMergeSize } = config;
  return graph.scope('visual.merger', () => {
    const name = 'visual.merger';
    const merged = hiddenSize * spatialMergeSize ** 2;
    const normed = RmsNorm(hidden, graph.weight(`${name}.ln_q.weight`, [hiddenSize]), rmsNormEps);
    const units = Reshape(normed, [unitsOf(hidden.dim(0), spatialMergeSize ** 2), merged]);
    const inner = Gelu(linear(graph, units, `${name}.mlp.0`, merged, { bias: true }));
    return linear(graph, inner, `${name}.mlp.2`, config.outHiddenSize, { bias: true });
  });
}

/** P / 4 for a patch count spelled `4*...`. */
function unitsOf(patches: Dim, merge: number): Dim {
  if (typeof patches === 'number') return patches / merge;
  return patches.replace(new RegExp(`^${merge}\\*`), '');
}

function block(
  graph: ModelGraph,
  config: Qwen25VLVisionConfig,
  name: string,
  x: Value,
  segments: SegmentInputs,
): Value {
  const { hiddenSize, rmsNormEps } = config;
  const norm = (value: Value, which: string) =>
    RmsNorm(value, graph.weight(`${name}.${which}.weight`, [hiddenSize]), rmsNormEps);
  const attended = Add(x, selfAttention(graph, config, `${name}.attn`, norm(x, 'norm1'), segments));
  return Add(attended, feedForward(graph, config, `${name}.mlp`, norm(attended, 'norm2'), { bias: true }));
}

function selfAttention(
  graph: ModelGraph,
  config: Qwen25VLVisionConfig,
  name: string,
  x: Value,
  segments: SegmentInputs,
): Value {
  const { hiddenSize, numHeads } = config;
  const { count, size, padded } = segments;
  const qkv = linear(graph, x, `${name}.qkv`, 3 * hiddenSize, { bias: true });
  const laidOut = padded ? GatherRows(qkv, padded.gather, padded.gatherUses) : qkv;
  const [q, k, v] = Split(laidOut, 1, [hiddenSize, hiddenSize, hiddenSize]).map((part) =>
    splitHeads(part, count, size, numHeads),
  ) as [Value, Value, Value];
  const rotate = (value: Value) => RotaryEmbedding(value, segments.cos, segments.sin);
  const mixed = joinHeads(attention(rotate(q), rotate(k), v, padded?.bias ?? null), multiplyDims(count, size));
  const back = padded ? GatherRows(mixed, padded.scatter, padded.scatterUses) : mixed;
  return linear(graph, back, `${name}.proj`, hiddenSize, { bias: true });
}
