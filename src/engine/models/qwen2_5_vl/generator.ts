/**
 * Samples completions from a Qwen2.5-VL model. The weights are live arrays: training and generation can take turns
 * without a copy.
 *
 * A chunk of sequences is prefilled and then decoded together until all have ended; those that end early leave the
 * batch. Every sequence draws from a random stream of its own, so neither batching nor order decides what it says.
 */
import { createHash } from 'node:crypto';
import { Fr1Error } from '../../../errors/fr1-error.ts';
import { ruleKey, Sampler } from '../../generate/sampler.ts';
import type {
  Completion,
  GenerationOptions,
  GenerationRequest,
  Generator,
  ImagePatches,
  SamplingOptions,
} from '../../generate/types.ts';
import { partsOfJoined } from '../../nn/linear.ts';
import { type Feeds, Program, type SessionSource } from '../../program.ts';
import { RandomStream } from '../../random.ts';
import type { BoundRun, SessionOptions } from '../../session/runtime.ts';
import { float32, type HostTensor, int32, sizeOf, type Tensor } from '../../tensor.ts';
import type { ModelWeights } from '../../weights/model-weights.ts';
import { buildBatch, type Row } from './batch.ts';
import type { Qwen25VLConfig } from './config.ts';
import { type DecodeOptions, decodeGraph, prefillGraph, sharedDecodeGraph } from './decoder.ts';
import { DeviceCache, deviceDecodeGraph, joinGraph, keepGraph, placeGraph } from './device-cache.ts';
import { defaultExecution, type Execution } from './execution.ts';
import {
  fitsPrefill,
  type GenerationLimits,
  generationLimits,
  mostSequences,
  sharesPrompts,
} from './generation-limits.ts';
import { JoinedWeights } from './joined-weights.ts';
import { KeptArrays } from './kept-arrays.ts';
import { KeyValueCache } from './key-value-cache.ts';
import { LayeredModel, type Runnable } from './layered.ts';
import { mropeCosSin, mropePositions } from './rope.ts';
import type { GenerationGraph } from './scores.ts';
import { SharedPrefixCache } from './shared-prefix-cache.ts';
import type { VisionLayoutKind } from './vision.ts';

export interface GeneratorOptions extends Partial<GenerationLimits> {
  /** Ended sequences leave the batch when at most this share of it is still running. @default 0.75 */
  readonly compactBelow?: number;
  /** @default by the size of the model */
  readonly execution?: Execution;
}

/** Caches and pixels of at most this size outlive the call: making them anew takes a small model longer than some tokens. */
const KEPT_BYTES = 64 * 1024 ** 2;

/** @param weights read anew in every run */
export function createGenerator(
  source: SessionSource,
  config: Qwen25VLConfig,
  weights: ModelWeights,
  options: GeneratorOptions = {},
): Generator & { release(): Promise<void> } {
  return new QwenGenerator(source, config, weights, options);
}

type Cache = KeyValueCache | SharedPrefixCache | DeviceCache;

interface Prompt {
  readonly request: GenerationRequest;
  readonly index: number;
  /** Rotary position of the first generated token. */
  readonly next: number;
}

interface Sequence {
  readonly prompt: Prompt;
  readonly child: number;
  readonly stream: RandomStream;
  readonly tokens: number[];
  readonly logProbs: number[];
  /** Tokens so far, the prompt's included; kept only for a repetition penalty. */
  readonly seen: Set<number>;
  finishReason: Completion['finishReason'] | null;
}

class QwenGenerator implements Generator {
  readonly #source: SessionSource;
  readonly #config: Qwen25VLConfig;
  readonly #weights: ModelWeights;
  readonly #limits: GenerationLimits;
  readonly #compactBelow: number;
  readonly #architecture: string;
  readonly #programs = new Map<string, Promise<Program>>();
  readonly #layered: LayeredModel | null;
  #joined: Promise<JoinedWeights> | undefined;
  /** Of the call before, for the next one to use. */
  #memory: KeptArrays | undefined;

  constructor(source: SessionSource, config: Qwen25VLConfig, weights: ModelWeights, options: GeneratorOptions) {
    this.#source = source;
    this.#config = config;
    this.#weights = weights;
    this.#limits = generationLimits(options);
    this.#compactBelow = options.compactBelow ?? 0.75;
    const execution = options.execution ?? defaultExecution(config);
    this.#layered = execution === 'layered' && !source.memory ? new LayeredModel(source, config, weights) : null;
    this.#architecture = createHash('sha256')
      .update(JSON.stringify({ config, weights: weights.layoutKey }))
      .digest('hex')
      .slice(0, 16);
  }

  /**
   * @throws SAMPLING_INVALID for options outside their ranges or a prompt without tokens
   * @throws IMAGE_COUNT_MISMATCH when image tokens and images of a prompt do not fit
   * @throws SCORES_NOT_FINITE
   */
  async generate(
    requests: readonly GenerationRequest[],
    sampling: SamplingOptions,
    { signal, onProgress }: GenerationOptions,
  ): Promise<Completion[][]> {
    signal?.throwIfAborted();
    const sampler = new Sampler(sampling, this.#config.text.vocabSize);
    const { rule } = sampler;
    const prompts = requests.map((request, index) => readPrompt(this.#config, request, index));
    const results = requests.map((): Completion[] => []);
    const total = requests.length * sampling.samplesPerRequest;
    let done = 0;
    const memory = this.#memory ?? new KeptArrays();
    this.#memory = undefined;
    for (const chunk of this.#chunks(prompts, sampling)) {
      await this.#complete(chunk, sampler, sampling, memory, signal, (ended) => {
        done += ended;
        onProgress?.(done, total);
      });
      for (const { prompt, child, tokens, logProbs, finishReason } of chunk) {
        const known = rule.kind === 'probabilities' && !rule.hasPenalty ? logProbs : null;
        results[prompt.index]![child] = { tokenIds: tokens, logProbs: known, finishReason: finishReason! };
      }
    }
    if (memory.byteLength <= KEPT_BYTES) this.#memory = memory;
    return results;
  }

  async release(): Promise<void> {
    const programs = [...this.#programs.values()];
    this.#programs.clear();
    this.#memory = undefined;
    for (const program of programs) await (await program).release();
    await (await this.#joined)?.release();
    await this.#layered?.release();
  }

  /** Sequences that are decoded together: prompts of similar length, the samples of a request next to each other. */
  #chunks(prompts: readonly Prompt[], sampling: SamplingOptions): Sequence[][] {
    const sorted = [...prompts].sort((a, b) => b.request.inputIds.length - a.request.inputIds.length);
    const chunks: Sequence[][] = [];
    let chunk: Sequence[] = [];
    let most = 0;
    for (const prompt of sorted) {
      const samples = Array.from({ length: sampling.samplesPerRequest }, (_, child): Sequence => {
        const { seed, inputIds } = prompt.request;
        return {
          prompt,
          child,
          stream: new RandomStream(seed, 'sample', child),
          tokens: [],
          logProbs: [],
          seen: new Set(sampling.repetitionPenalty === 1 ? [] : inputIds),
          finishReason: null,
        };
      });
      // The prompts get shorter, so the first of a chunk decides its memory.
      const fits = chunk.length > 0 && chunk.length + samples.length <= most;
      if (!fits && chunk.length > 0) {
        chunks.push(chunk);
        chunk = [];
      }
      if (chunk.length === 0) {
        const { length } = prompt.request.inputIds;
        most = mostSequences(this.#config, this.#limits, length, {
          maxNewTokens: sampling.maxNewTokens,
          samples: samples.length,
          areShared: this.#sharesPrompts(length, samples.length),
        });
      }
      for (const sequence of samples) {
        if (chunk.length === most) {
          chunks.push(chunk);
          chunk = [];
        }
        chunk.push(sequence);
      }
    }
    if (chunk.length > 0) chunks.push(chunk);
    return chunks;
  }

  /** Fills the tokens of every sequence of a chunk. */
  async #complete(
    chunk: readonly Sequence[],
    sampler: Sampler,
    sampling: SamplingOptions,
    memory: KeptArrays,
    signal: AbortSignal | undefined,
    onEnded: (ended: number) => void,
  ): Promise<void> {
    const { maxNewTokens } = sampling;
    const { vocabSize, headDim } = this.#config.text;
    const half = headDim / 2;
    const stops = new Set(sampling.stopTokenIds);
    const longest = chunk.reduce((most, { prompt }) => Math.max(most, prompt.request.inputIds.length), 0);
    const cache = await this.#openCache(chunk, longest, maxNewTokens, memory);

    const accept = (sequence: Sequence, scores: Float32Array): boolean => {
      const token = sampler.pick(scores, sequence.stream);
      sequence.tokens.push(token);
      if (sampler.rule.hasPenalty) sequence.seen.add(token);
      if (sampler.rule.kind === 'probabilities') sequence.logProbs.push(Math.log(scores[token]!));
      if (stops.has(token)) sequence.finishReason = 'stop';
      else if (sequence.tokens.length === maxNewTokens) sequence.finishReason = 'length';
      return sequence.finishReason !== null;
    };

    let ended = 0;
    await this.#prefill(chunk, cache, sampler, memory, signal, (sequence, scores) => {
      if (accept(sequence, scores)) ended++;
    });
    if (ended > 0) onEnded(ended);

    let running = chunk.length - ended;
    if (running === 0) return cache.release();
    const program = await this.#decodeProgram(cache, sampler, chunk.length);
    const angles = this.#angles(chunk, maxNewTokens);
    const ids = new Int32Array(chunk.length);
    const cos = new Float32Array(chunk.length * half);
    const sin = new Float32Array(chunk.length * half);
    const scores = new Float32Array(chunk.length * vocabSize);
    const fixed = await this.#fixedFeeds(program, sampler);
    /** The sequence in each slot of the cache. */
    let slots = [...chunk];
    let bound: BoundRun | undefined;
    const rebind = (): BoundRun => {
      bound?.release();
      const count = slots.length;
      const seen = seenFeeds(
        sampler,
        slots.map((slot) => slot.seen),
      );
      bound = program.bind(
        {
          ...fixed,
          ...cache.feeds(),
          ...seen,
          ids: { dtype: 'int32', shape: [count], data: ids.subarray(0, count) },
          cos: { dtype: 'float32', shape: [count, 1, half], data: cos.subarray(0, count * half) },
          sin: { dtype: 'float32', shape: [count, 1, half], data: sin.subarray(0, count * half) },
        },
        {
          ...cache.next(),
          scores: { dtype: 'float32', shape: [count, vocabSize], data: scores.subarray(0, count * vocabSize) },
        },
      );
      return bound;
    };
    try {
      while (running > 0) {
        signal?.throwIfAborted();
        let isStale = bound === undefined || sampler.rule.hasPenalty;
        if (running <= this.#compactBelow * slots.length) {
          const kept = slots.flatMap((sequence, slot) => (sequence.finishReason === null ? [slot] : []));
          await cache.keep(kept);
          slots = kept.map((slot) => slots[slot]!);
          isStale = true;
        }
        if (cache.prepareStep()) isStale = true;
        const count = slots.length;
        for (let slot = 0; slot < count; slot++) {
          const { prompt, tokens } = slots[slot]!;
          ids[slot] = tokens[tokens.length - 1]!;
          const from = (prompt.next + tokens.length - 1) * half;
          for (let i = 0; i < half; i++) {
            cos[slot * half + i] = angles.cos[from + i]!;
            sin[slot * half + i] = angles.sin[from + i]!;
          }
        }
        await (isStale ? rebind() : bound!).run({ signal });
        cache.advance();
        ended = 0;
        for (let slot = 0; slot < count; slot++) {
          const sequence = slots[slot]!;
          if (sequence.finishReason !== null) continue;
          if (accept(sequence, scores.subarray(slot * vocabSize, (slot + 1) * vocabSize))) ended++;
        }
        running -= ended;
        if (ended > 0) onEnded(ended);
      }
    } finally {
      bound?.release();
    }
    cache.release();
  }

  /** A cache without prompts, in the memory of the device or of the host. */
  async #openCache(
    chunk: readonly Sequence[],
    longest: number,
    maxNewTokens: number,
    hostMemory: KeptArrays,
  ): Promise<Cache> {
    const { memory } = this.#source;
    if (memory === undefined) {
      const promptOf = promptNumbers(chunk);
      if (this.#sharesPrompts(longest, chunk.length / (promptOf.at(-1)! + 1))) {
        return new SharedPrefixCache(this.#config, promptOf, longest, maxNewTokens, hostMemory);
      }
      const cache = new KeyValueCache(this.#config, chunk.length, longest + maxNewTokens - 1, hostMemory);
      cache.begin(longest);
      return cache;
    }
    const program = (name: string, build: (config: Qwen25VLConfig) => GenerationGraph) =>
      this.#program(`device-cache:${name}`, () => build(this.#config));
    const programs = {
      place: await program('place', placeGraph),
      keep: await program('keep', keepGraph),
      join: await program('join', joinGraph),
    };
    return new DeviceCache(this.#config, memory, programs, longest + maxNewTokens);
  }

  /** Reads the prompts of a chunk into the cache and calls back with the scores of every sequence's first token. */
  async #prefill(
    chunk: readonly Sequence[],
    cache: Cache,
    sampler: Sampler,
    memory: KeptArrays,
    signal: AbortSignal | undefined,
    onScores: (sequence: Sequence, scores: Float32Array) => void,
  ): Promise<void> {
    const { vocabSize } = this.#config.text;
    const groups: { readonly prompt: Prompt; readonly first: number; count: number }[] = [];
    for (const [slot, { prompt }] of chunk.entries()) {
      const group = groups.at(-1);
      if (group?.prompt === prompt) group.count++;
      else groups.push({ prompt, first: slot, count: 1 });
    }
    for (const part of splitByCost(groups, this.#limits)) {
      signal?.throwIfAborted();
      const batch = promptBatch(
        this.#config,
        part.map(({ prompt }) => prompt.request),
        memory,
      );
      const kind = batch.visionKind;
      const program = await this.#prefillProgram(kind, sampler);
      const onDevice = cache instanceof DeviceCache ? cache.promptTensors(...batch.shape) : null;
      const seen = seenFeeds(
        sampler,
        part.map(({ first }) => chunk[first]!.seen),
      );
      const feeds = { ...(await this.#fixedFeeds(program, sampler)), ...batch.feeds, ...seen };
      const into = onDevice ?? this.#promptTensors(batch.shape, memory);
      const prefilled = await program.run(feeds, { into, signal });
      if (onDevice && cache instanceof DeviceCache) {
        const lengths = part.map(({ prompt }) => prompt.request.inputIds.length);
        await cache.append(
          onDevice,
          lengths,
          part.map(({ count }) => count),
        );
      }
      const scores = prefilled['scores']!.data as Float32Array;
      for (const [row, { prompt, first, count }] of part.entries()) {
        if (!(cache instanceof DeviceCache))
          cache.writePrompt(prefilled, row, prompt.request.inputIds.length, first, count);
        const own = scores.subarray(row * vocabSize, (row + 1) * vocabSize);
        for (let s = 0; s < count; s++) onScores(chunk[first + s]!, own);
      }
    }
  }

  /** Where prefill writes keys and values, until they are copied to the sequences. */
  #promptTensors([rows, tokens]: readonly [number, number], memory: KeptArrays): Record<string, HostTensor> {
    if (this.#layered) return {};
    const { numHiddenLayers, numKeyValueHeads, headDim } = this.#config.text;
    const shape = [rows, numKeyValueHeads, tokens, headDim];
    const names = Array.from({ length: numHiddenLayers }, (_, layer) => [`k${layer}`, `v${layer}`]).flat();
    return Object.fromEntries(
      names.map((name) => [name, float32(shape, memory.take(`prefilled:${name}`, sizeOf(shape)))]),
    );
  }

  async #prefillProgram(kind: VisionLayoutKind | null, { rule }: Sampler): Promise<Runnable> {
    if (this.#layered) return this.#layered.prefill(kind, rule);
    return this.#program(`prefill:${kind}:${ruleKey(rule)}`, () =>
      prefillGraph(this.#config, kind, rule, this.#weights),
    );
  }

  async #decodeProgram(cache: Cache, { rule }: Sampler, sequences: number): Promise<Runnable> {
    if (this.#layered) return this.#layered.decode(rule);
    if (cache instanceof DeviceCache) {
      // On WebGPU a product takes the same time whatever its width; elsewhere a second copy of the weights gains nothing.
      const joinsWeights = this.#source.provider === 'webgpu';
      return this.#program(`device-decode:${ruleKey(rule)}`, () =>
        deviceDecodeGraph(this.#config, rule, this.#weights, joinsWeights),
      );
    }
    const [kind, build] =
      cache instanceof SharedPrefixCache
        ? (['shared-decode', sharedDecodeGraph] as const)
        : (['decode', decodeGraph] as const);
    // With a single row no factor is laid out anew.
    const options: DecodeOptions = { layout: this.#weights, weightsFirst: sequences > 1 };
    return this.#program(
      `${kind}:${options.weightsFirst ? 'weights-first:' : ''}${ruleKey(rule)}`,
      () => build(this.#config, rule, options),
      // It would make transposed weights the right factors again.
      { disabledOptimizers: ['GemmTransposeFusion'] },
    );
  }

  #sharesPrompts(promptTokens: number, perPrompt: number): boolean {
    return !this.#layered && sharesPrompts(this.#limits, promptTokens, perPrompt);
  }

  /** cos and sin [positions, D / 2] of every text position that a chunk can reach. */
  #angles(chunk: readonly Sequence[], maxNewTokens: number) {
    const count = chunk.reduce((most, { prompt }) => Math.max(most, prompt.next), 0) + maxNewTokens;
    const positions = new Int32Array(3 * count);
    for (let i = 0; i < positions.length; i++) positions[i] = i % count;
    return mropeCosSin(positions, this.#config);
  }

  /** Feeds that stay the same from step to step. */
  async #fixedFeeds(program: Runnable, sampler: Sampler): Promise<Feeds> {
    const find = await this.#weights.finder(this.#source);
    const fixed: Record<string, Tensor> = {
      logit_bias: { dtype: 'float32', shape: [sampler.logitBias.length], data: sampler.logitBias },
      penalty: { dtype: 'float32', shape: [1], data: Float32Array.of(sampler.penalty) },
      inverse_temperature: { dtype: 'float32', shape: [1], data: Float32Array.of(sampler.inverseTemperature) },
    };
    const joined = await this.#joinedFor(program, find);
    for (const { name } of program.feeds) {
      const weight = find(name) ?? joined?.find(name);
      if (weight) fixed[name] = weight;
    }
    return fixed;
  }

  /** The joined weights that a program takes, as the weights are now. */
  async #joinedFor(
    { feeds }: Runnable,
    find: (name: string) => Tensor | undefined,
  ): Promise<JoinedWeights | undefined> {
    const { memory } = this.#source;
    const names = feeds.map(({ name }) => name).filter((name) => partsOfJoined(name).length > 1);
    if (memory === undefined || names.length === 0) return undefined;
    const isNew = this.#joined === undefined;
    this.#joined ??= JoinedWeights.create({ ...this.#source, memory }, this.#weights, names);
    const joined = await this.#joined;
    if (isNew || this.#weights.trained.parameters.length > 0) await joined.refresh(find);
    return joined;
  }

  #program(key: string, build: () => GenerationGraph, session: SessionOptions = {}): Promise<Program> {
    let program = this.#programs.get(key);
    if (!program) {
      const { graph, outputs } = build();
      program = Program.compile(this.#source, graph, outputs, {
        key: `qwen2_5_vl:${this.#architecture}:${key}`,
        session,
      });
      this.#programs.set(key, program);
    }
    return program;
  }
}

/** Numbers the prompts of a chunk, whose sequences stand next to each other. */
function promptNumbers(chunk: readonly Sequence[]): number[] {
  let number = -1;
  return chunk.map(({ prompt }, slot) => {
    if (prompt !== chunk[slot - 1]?.prompt) number++;
    return number;
  });
}

/** The tokens seen by every sequence [N, Y], filled up with one of its own. */
function seenFeeds({ rule }: Sampler, rows: readonly ReadonlySet<number>[]): Feeds {
  if (!rule.hasPenalty) return {};
  const width = rows.reduce((most, { size }) => Math.max(most, size), 0);
  const seen = new Int32Array(rows.length * width);
  for (const [row, tokens] of rows.entries()) {
    const own = seen.subarray(row * width, (row + 1) * width);
    own.set([...tokens]);
    own.fill(own[0]!, tokens.size);
  }
  return { seen: int32([rows.length, width], seen) };
}

/** Checks a request. */
function readPrompt(config: Qwen25VLConfig, request: GenerationRequest, index: number): Prompt {
  const { inputIds, images } = request;
  const wrong = inputIds.findIndex((id) => id < 0 || id >= config.text.vocabSize);
  if (inputIds.length === 0) throw new Fr1Error('SAMPLING_INVALID', `prompt ${index} has no tokens`);
  if (wrong >= 0) {
    throw new Fr1Error(
      'SAMPLING_INVALID',
      `prompt ${index} has token ${inputIds[wrong]} at place ${wrong}, the model knows ${config.text.vocabSize}`,
    );
  }
  if (inputIds[inputIds.length - 1] === config.imageTokenId) {
    throw new Fr1Error('SAMPLING_INVALID', `prompt ${index} ends inside an image; text must follow it`);
  }
  const grids = images.map(({ grid }) => grid);
  const { deltas } = mropePositions([inputIds], undefined, grids, config);
  return { request, index, next: inputIds.length + deltas[0]! };
}

/** Prompts as rows of a batch whose only labels are the tokens after them; equal images are read once. */
function promptBatch(config: Qwen25VLConfig, requests: readonly GenerationRequest[], memory: KeptArrays) {
  const places = new Map<ImagePatches, number>();
  const rows = requests.map(({ inputIds, images }): Row => {
    const own = images.map((image) => {
      const place = places.get(image) ?? places.size;
      places.set(image, place);
      return place;
    });
    return { prefix: inputIds, images: own, branches: [{ ids: [0] }] };
  });
  return buildBatch(config, rows, [...places.keys()], memory);
}

/** Cuts a list, longest prompt first, so that no part has more padded tokens and patches than the limit. */
function splitByCost<T extends { readonly prompt: Prompt }>(groups: readonly T[], limits: GenerationLimits): T[][] {
  const parts: T[][] = [];
  let part: T[] = [];
  let tokens = 0;
  let patches = 0;
  for (const group of groups) {
    const { inputIds, images } = group.prompt.request;
    const own = images.reduce((sum, { grid: [time, height, width] }) => sum + time * height * width, 0);
    const longest = Math.max(tokens, inputIds.length);
    const size = { longest, rows: part.length + 1, patches: patches + own };
    if (part.length > 0 && !fitsPrefill(limits, size)) {
      parts.push(part);
      part = [];
      patches = 0;
    }
    tokens = part.length === 0 ? inputIds.length : longest;
    patches += own;
    part.push(group);
  }
  if (part.length > 0) parts.push(part);
  return parts;
}
