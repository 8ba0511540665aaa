/**
 * The two graphs of generation, and the key/value cache between them. Prefill reads whole prompts and puts out the keys
 * and values of every layer; decode adds one token to every sequence.
 *
 * The cache is time-major and in host memory: what decode reads is a view of the time steps so far, what it writes goes
 * straight into the next one, so nothing is copied from step to step.
 *
 * Named sizes: B prompts of T tokens (prefill); S sequences with P cached time steps (decode).
 */
import type { Graph, Value } from '../../autodiff/graph.ts';
import type { ScoreRule } from '../../generate/sampler.ts';
import { ModelGraph, type WeightLayout } from '../../nn/model-graph.ts';
import { type SharedPrefix, sharedPrefixAttention } from '../../nn/shared-prefix-attention.ts';
import { CachedAttention } from '../../ops/cached-attention.ts';
import { Reshape } from '../../ops/reshape.ts';
import { Transpose } from '../../ops/transpose.ts';
import type { HostTensor } from '../../tensor.ts';
import { MASKED } from './batch.ts';
import type { Qwen25VLConfig } from './config.ts';
import { forward } from './forward.ts';
import { type GenerationGraph, scoresOf } from './scores.ts';
import { textHead, textModel, tokenEmbeddings } from './text.ts';
import type { VisionLayoutKind } from './vision.ts';

/** Right-padded prompts to the scores of their last tokens [B, V], keys and values [T, B, K, D]. Feeds: buildBatch(). */
export function prefillGraph(
  config: Qwen25VLConfig,
  visionKind: VisionLayoutKind | null,
  rule: ScoreRule,
  layout?: WeightLayout,
): GenerationGraph {
  return cachingPrefill(config, visionKind, rule, layout, (value) => Transpose(value, [2, 0, 1, 3]));
}

/** The prefill whose keys and values leave as `kept` lays them out, from [B, K, T, D]. */
export function cachingPrefill(
  config: Qwen25VLConfig,
  visionKind: VisionLayoutKind | null,
  rule: ScoreRule,
  layout: WeightLayout | undefined,
  kept: (value: Value) => Value,
): GenerationGraph {
  const graph = new ModelGraph(layout);
  const outputs: Record<string, Value> = {};
  const { logits } = forward(graph, config, visionKind, (k, v, layer) => {
    outputs[`k${layer}`] = kept(k);
    outputs[`v${layer}`] = kept(v);
  });
  outputs['scores'] = scoresOf(graph, logits, rule);
  return { graph, outputs };
}

/** One token of every sequence to the scores of the next [S, V], and its keys and values [S, K, D]. */
export function decodeGraph(config: Qwen25VLConfig, rule: ScoreRule, layout?: WeightLayout): GenerationGraph {
  const { headDim, numKeyValueHeads: groups } = config.text;
  const graph = new ModelGraph(layout);
  const ids = graph.input('ids', 'int32', ['S']);
  const cos = graph.input('cos', 'float32', ['S', 1, headDim / 2]);
  const sin = graph.input('sin', 'float32', ['S', 1, headDim / 2]);
  const mask = cacheMask(graph);
  const outputs: Record<string, Value> = {};
  const embeddings = tokenEmbeddings(graph, config, ids);
  const hidden = textModel(graph, config.text, embeddings, { cos, sin }, (q, k, v, layer) => {
    const pastK = graph.input(`past_k${layer}`, 'float32', ['P', 'S', groups, headDim]);
    const pastV = graph.input(`past_v${layer}`, 'float32', ['P', 'S', groups, headDim]);
    outputs[`k${layer}`] = Reshape(k, ['S', groups, headDim]);
    outputs[`v${layer}`] = Reshape(v, ['S', groups, headDim]);
    return CachedAttention(q, k, v, pastK, pastV, mask);
  });
  outputs['scores'] = scoresOf(graph, textHead(graph, config, hidden), rule);
  return { graph, outputs };
}

/** As the decode graph, where sequences share the keys and values of their prompts; see SharedPrefixCache. */
export function sharedDecodeGraph(config: Qwen25VLConfig, rule: ScoreRule, layout?: WeightLayout): GenerationGraph {
  const { headDim, numKeyValueHeads: groups } = config.text;
  const graph = new ModelGraph(layout);
  const ids = graph.input('ids', 'int32', ['S']);
  const cos = graph.input('cos', 'float32', ['S', 1, headDim / 2]);
  const sin = graph.input('sin', 'float32', ['S', 1, headDim / 2]);
  const timeMajor = graph.input('prefix_mask', 'float32', ['R', 'G']);
  const shared: SharedPrefix = {
    toGrid: Reshape(graph.input('to_grid', 'int32', ['G', 'W']), ['G*W']),
    fromGrid: graph.input('from_grid', 'int32', ['S']),
    mask: Reshape(Transpose(timeMajor, [1, 0]), ['G', 1, 1, 'R']),
    grid: ['G', 'W'],
  };
  const outputs: Record<string, Value> = {};
  const hidden = textModel(graph, config.text, tokenEmbeddings(graph, config, ids), { cos, sin }, (q, k, v, layer) => {
    const cached = (name: string, steps: string, rows: string) =>
      graph.input(`${name}${layer}`, 'float32', [steps, rows, groups, headDim]);
    outputs[`k${layer}`] = Reshape(k, ['S', groups, headDim]);
    outputs[`v${layer}`] = Reshape(v, ['S', groups, headDim]);
    return sharedPrefixAttention(
      [q, k, v],
      [cached('prefix_k', 'R', 'G'), cached('prefix_v', 'R', 'G')],
      [cached('past_k', 'P', 'S'), cached('past_v', 'P', 'S')],
      shared,
    );
  });
  outputs['scores'] = scoresOf(graph, textHead(graph, config, hidden), rule);
  return { graph, outputs };
}

/** What a cache feeds for masked time steps, as a bias on scores [S, 1, 1, P]. */
export function cacheMask(graph: Graph): Value {
  const timeMajor = graph.input('mask', 'float32', ['P', 'S']);
  return Reshape(Transpose(timeMajor, [1, 0]), ['S', 1, 1, 'P']);
}

/** Bytes of keys and values per sequence and time step. */
export function cacheBytesPerToken({ text }: Qwen25VLConfig): number {
  return 2 * text.numHiddenLayers * text.numKeyValueHeads * text.headDim * Float32Array.BYTES_PER_ELEMENT;
}

/**
 * Keys and values of a batch of sequences, right-aligned: all end at time step `length`, shorter ones are masked at
 * their start.
 */
export class KeyValueCache {
  /** Time steps in use: P. */
  length = 0;
  /** Sequences: S. */
  slots: number;
  readonly #layers: number;
  readonly #groups: number;
  readonly #headDim: number;
  /** For each layer keys and values [capacity, S, K, D]. */
  readonly #tensors: readonly Float32Array[];
  readonly #mask: Float32Array;

  /** @param memory buffers of an earlier cache to use again where they are large enough */
  constructor(config: Qwen25VLConfig, slots: number, capacity: number, memory: Float32Array[] = []) {
    const { numHiddenLayers, numKeyValueHeads, headDim } = config.text;
    this.slots = slots;
    this.#layers = numHiddenLayers;
    this.#groups = numKeyValueHeads;
    this.#headDim = headDim;
    const size = capacity * slots * numKeyValueHeads * headDim;
    this.#tensors = Array.from({ length: 2 * numHiddenLayers }, (_, i) => {
      const known = memory[i];
      const tensor = known !== undefined && known.length >= size ? known : new Float32Array(size);
      memory[i] = tensor;
      return tensor;
    });
    this.#mask = new Float32Array(capacity * slots);
  }

  /**
   * Starts with `length` time steps in which every slot is masked and zero, to be filled with prompts.
   */
  begin(length: number): void {
    const row = this.slots * this.#groups * this.#headDim;
    for (const tensor of this.#tensors) tensor.fill(0, 0, length * row);
    this.#mask.fill(MASKED, 0, length * this.slots);
    this.length = length;
  }

  /**
   * Copies a prompt, so that it ends at the last time step.
   *
   * @param prefilled outputs `k0`, `v0`, ... [T, B, K, D]
   * @param row which of the B prompts
   * @param tokens length of the prompt
   * @param first,count the slots that continue it
   */
  writePrompt(
    prefilled: Readonly<Record<string, HostTensor>>,
    row: number,
    tokens: number,
    first: number,
    count: number,
  ): void {
    this.writeTokens(prefilled, row, [0, tokens], first, count);
  }

  /** As `writePrompt`, of the prompt only the tokens from `begin` up to before `end`. */
  writeTokens(
    prefilled: Readonly<Record<string, HostTensor>>,
    row: number,
    [begin, end]: readonly [begin: number, end: number],
    first: number,
    count: number,
  ): void {
    const width = this.#groups * this.#headDim;
    const tokens = end - begin;
    const start = this.length - tokens;
    for (let layer = 0; layer < this.#layers; layer++) {
      for (const [part, kind] of ['k', 'v'].entries()) {
        const { data, shape } = prefilled[`${kind}${layer}`]! as HostTensor<'float32'>;
        const rows = shape[1]!;
        const tensor = this.#tensors[2 * layer + part]!;
        for (let t = 0; t < tokens; t++) {
          const from = ((begin + t) * rows + row) * width;
          const source = data.subarray(from, from + width);
          const to = ((start + t) * this.slots + first) * width;
          for (let s = 0; s < count; s++) tensor.set(source, to + s * width);
        }
      }
    }
    for (let t = start; t < this.length; t++) {
      this.#mask.fill(0, t * this.slots + first, t * this.slots + first + count);
    }
  }

  /** Feeds of a decode step; they are views, valid until the cache changes. */
  feeds(): Record<string, HostTensor> {
    const { length, slots } = this;
    const shape = [length, slots, this.#groups, this.#headDim];
    const size = length * slots * this.#groups * this.#headDim;
    const feeds: Record<string, HostTensor> = {
      mask: { dtype: 'float32', shape: [length, slots], data: this.#mask.subarray(0, length * slots) },
    };
    for (let layer = 0; layer < this.#layers; layer++) {
      feeds[`past_k${layer}`] = { dtype: 'float32', shape, data: this.#tensors[2 * layer]!.subarray(0, size) };
      feeds[`past_v${layer}`] = { dtype: 'float32', shape, data: this.#tensors[2 * layer + 1]!.subarray(0, size) };
    }
    return feeds;
  }

  /** Where a decode step writes its keys and values: the time step after the last. */
  next(): Record<string, HostTensor> {
    const row = this.slots * this.#groups * this.#headDim;
    const shape = [this.slots, this.#groups, this.#headDim];
    const at = this.length * row;
    const into: Record<string, HostTensor> = {};
    for (let layer = 0; layer < this.#layers; layer++) {
      into[`k${layer}`] = { dtype: 'float32', shape, data: this.#tensors[2 * layer]!.subarray(at, at + row) };
      into[`v${layer}`] = { dtype: 'float32', shape, data: this.#tensors[2 * layer + 1]!.subarray(at, at + row) };
    }
    return into;
  }

  /** Takes in what a decode step wrote. */
  advance(): void {
    this.#mask.fill(0, this.length * this.slots, (this.length + 1) * this.slots);
    this.length++;
  }

  /** Its memory is the caller's. */
  release(): void {}

  /** Drops all slots but the given ones (rising), which move together. */
  keep(kept: readonly number[]): void {
    const width = this.#groups * this.#headDim;
    const from = this.slots;
    const to = kept.length;
    // Runs of neighbouring slots move as one.
    const runs: { readonly slot: number; readonly target: number; length: number }[] = [];
    for (const [target, slot] of kept.entries()) {
      const run = runs.at(-1);
      if (run && run.slot + run.length === slot) run.length++;
      else runs.push({ slot, target, length: 1 });
    }
    const move = (data: Float32Array, size: number) => {
      for (let t = 0; t < this.length; t++) {
        for (const { slot, target, length } of runs) {
          const source = (t * from + slot) * size;
          data.copyWithin((t * to + target) * size, source, source + length * size);
        }
      }
    };
    for (const tensor of this.#tensors) move(tensor, width);
    move(this.#mask, 1);
    this.slots = to;
  }
}
