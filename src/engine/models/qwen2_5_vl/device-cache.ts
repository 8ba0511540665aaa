/**
 * Generation with the key/value cache in the memory of a device: the graphs that write and read it, and its book-keeping.
 *
 * Every slot starts at position 0 and has room for its longest continuation. A decode step writes each new key and value
 * at the position of its slot, in place, and attends to the whole slot under a mask; only token ids, angles, positions, the
 * mask and the scores cross between host and device.
 *
 * Keys lie as [S, K, D, C] and values as [S, K, C, D], so that both products of attention read them as they are.
 *
 * Named sizes: S slots of C positions; B prompts of T tokens, followed by Z unused positions; W elements of a slot.
 */
import { multiplyDims } from '../../autodiff/dim.ts';
import { Graph, type Value } from '../../autodiff/graph.ts';
import type { ScoreRule } from '../../generate/sampler.ts';
import { ModelGraph, type WeightLayout } from '../../nn/model-graph.ts';
import { Add } from '../../ops/add.ts';
import { Concat } from '../../ops/concat.ts';
import { Embedding } from '../../ops/embedding.ts';
import { Expand } from '../../ops/expand.ts';
import { MatMul } from '../../ops/mat-mul.ts';
import { Mul } from '../../ops/mul.ts';
import { Reshape } from '../../ops/reshape.ts';
import { ScatterRows } from '../../ops/scatter-rows.ts';
import { Softmax } from '../../ops/softmax.ts';
import { Transpose } from '../../ops/transpose.ts';
import type { Program } from '../../program.ts';
import type { DeviceMemory } from '../../session/runtime.ts';
import { type DeviceTensor, float32, int32, int64, type Tensor } from '../../tensor.ts';
import { MASKED } from './batch.ts';
import type { Qwen25VLConfig } from './config.ts';
import { type GenerationGraph, scoresOf } from './scores.ts';
import { textHead, textModel, tokenEmbeddings } from './text.ts';

type Sizes = Qwen25VLConfig['text'];

/** Names of the tensors of a cache: `k0`, `v0`, `k1`, ... */
function cacheNames({ numHiddenLayers }: Sizes): string[] {
  return Array.from({ length: numHiddenLayers }, (_, layer) => [`k${layer}`, `v${layer}`]).flat();
}

/** Prompts [B, K, T, D] in the places of the slots that continue them: cache tensors, with row `rows[s]` in slot s. */
export function placeGraph({ text }: Qwen25VLConfig): GenerationGraph {
  const { numKeyValueHeads: groups, headDim: width } = text;
  const graph = new Graph();
  const rows = graph.input('rows', 'int32', ['S']);
  const room = Reshape(graph.input('room', 'float32', ['Z']), [1, 1, 1, 'Z']);
  const slot = multiplyDims(groups * width, 'T+Z');
  const outputs: Record<string, Value> = {};
  for (const name of cacheNames(text)) {
    const prompt = graph.input(name, 'float32', ['B', groups, 'T', width]);
    const turned = Transpose(prompt, [0, 1, 3, 2]);
    const padded = Concat([turned, Expand(room, ['B', groups, width, 'Z'])], 3);
    const placed = name.startsWith('k') ? padded : Transpose(padded, [0, 1, 3, 2]);
    outputs[`placed:${name}`] = Embedding(Reshape(placed, ['B', slot]), rows);
  }
  return { graph, outputs };
}

/** Slots `kept` of every tensor. */
export function keepGraph({ text }: Qwen25VLConfig): GenerationGraph {
  const graph = new Graph();
  const kept = graph.input('kept', 'int32', ['N']);
  const outputs: Record<string, Value> = {};
  for (const name of cacheNames(text)) {
    outputs[`kept:${name}`] = Embedding(graph.input(name, 'float32', ['S', 'W']), kept);
  }
  return { graph, outputs };
}

/** The slots of two caches, one after the other. */
export function joinGraph({ text }: Qwen25VLConfig): GenerationGraph {
  const graph = new Graph();
  const outputs: Record<string, Value> = {};
  for (const name of cacheNames(text)) {
    const parts = [graph.input(name, 'float32', ['S', 'W']), graph.input(`more:${name}`, 'float32', ['M', 'W'])];
    outputs[`joined:${name}`] = Concat(parts, 0);
  }
  return { graph, outputs };
}

/**
 * One token of every slot to the scores of the next [S, V]; the cache's tensors come out with it (`next:k0`, ...).
 *
 * @param joinsWeights whether it takes weights as JoinedWeights has them
 */
export function deviceDecodeGraph(
  config: Qwen25VLConfig,
  rule: ScoreRule,
  layout: WeightLayout | undefined,
  joinsWeights: boolean,
): GenerationGraph {
  const { headDim: width, numKeyValueHeads: groups, numAttentionHeads: heads } = config.text;
  const graph = new ModelGraph(layout, { joinsWeights });
  const ids = graph.input('ids', 'int32', ['S']);
  const cos = graph.input('cos', 'float32', ['S', 1, width / 2]);
  const sin = graph.input('sin', 'float32', ['S', 1, width / 2]);
  const mask = Reshape(graph.input('mask', 'float32', ['S', 'C']), ['S', 1, 1, 'C']);
  const [keys, values] = [multiplyDims('S', groups * width), multiplyDims('S', groups)];
  const keyPlaces = graph.input('key_places', 'int64', [keys, 1]);
  const valuePlaces = graph.input('value_places', 'int64', [values, 1]);
  const outputs: Record<string, Value> = {};
  const embeddings = tokenEmbeddings(graph, config, ids);
  // Queries are scaled by their rotation: where products have no factor, that saves a kernel per layer.
  const scale = graph.scalar(1 / Math.sqrt(width));
  const angles = { cos, sin, ofQueries: { cos: Mul(cos, scale), sin: Mul(sin, scale) } };
  const hidden = textModel(graph, config.text, embeddings, angles, (q, k, v, layer) => {
    const pastK = graph.input(`k${layer}`, 'float32', [multiplyDims(keys, 'C'), 1]);
    const pastV = graph.input(`v${layer}`, 'float32', [multiplyDims(values, 'C'), width]);
    const nextK = ScatterRows(pastK, keyPlaces, Reshape(k, [keys, 1]), { add: false });
    const nextV = ScatterRows(pastV, valuePlaces, Reshape(v, [values, width]), { add: false });
    outputs[`next:k${layer}`] = nextK;
    outputs[`next:v${layer}`] = nextV;
    const grouped = Reshape(q, ['S', groups, heads / groups, width]);
    const products = MatMul(grouped, Reshape(nextK, ['S', groups, width, 'C']));
    const weights = Softmax(Add(products, mask));
    return Reshape(MatMul(weights, Reshape(nextV, ['S', groups, 'C', width])), ['S', heads, 1, width]);
  });
  outputs['scores'] = scoresOf(graph, textHead(graph, config, hidden), rule);
  return { graph, outputs };
}

/** Compiled once per generator. */
export interface CachePrograms {
  readonly place: Program;
  readonly keep: Program;
  readonly join: Program;
}

type CacheTensors = Readonly<Record<string, DeviceTensor<'float32'>>>;

export class DeviceCache {
  readonly #config: Sizes;
  readonly #memory: DeviceMemory;
  readonly #programs: CachePrograms;
  /** Positions of a slot: C. */
  readonly #capacity: number;
  #tensors: CacheTensors = {};
  /** Next position of each slot. */
  #positions: number[] = [];
  /** [S, C] */
  #mask = new Float32Array(0);

  /** @param capacity positions that the longest sequence needs, at least one more than its prompt */
  constructor({ text }: Qwen25VLConfig, memory: DeviceMemory, programs: CachePrograms, capacity: number) {
    this.#config = text;
    this.#memory = memory;
    this.#programs = programs;
    this.#capacity = capacity;
  }

  /** Where prefill writes the keys and values of `rows` prompts padded to `tokens`. */
  promptTensors(rows: number, tokens: number): CacheTensors {
    const { numKeyValueHeads: groups, headDim } = this.#config;
    return this.#allocate([rows, groups, tokens, headDim]);
  }

  /**
   * Appends slots for prompts, whose tensors are released.
   *
   * @param lengths tokens of each prompt
   * @param counts slots that continue each prompt
   */
  async append(prompts: CacheTensors, lengths: readonly number[], counts: readonly number[]): Promise<void> {
    const rows = counts.flatMap((count, row) => new Array<number>(count).fill(row));
    const tokens = Object.values(prompts)[0]!.shape[2]!;
    const added = this.#allocate(this.#shape(rows.length));
    await this.#programs.place.run(
      {
        ...prompts,
        rows: int32([rows.length], Int32Array.from(rows)),
        room: float32([this.#capacity - tokens]),
      },
      { into: prefixed('placed:', added) },
    );
    release(prompts);
    const mask = new Float32Array((this.#positions.length + rows.length) * this.#capacity).fill(MASKED);
    mask.set(this.#mask);
    for (const [i, row] of rows.entries()) {
      const from = (this.#positions.length + i) * this.#capacity;
      mask.fill(0, from, from + lengths[row]!);
    }
    await this.#join(added, rows.length);
    this.#mask = mask;
    this.#positions.push(...rows.map((row) => lengths[row]!));
  }

  /** @returns that `feeds()` and `next()` are made anew for every step */
  prepareStep(): boolean {
    return true;
  }

  /** Feeds of a decode step, which lets every slot see its new token. */
  feeds(): Record<string, Tensor> {
    const { numKeyValueHeads: groups, headDim: width } = this.#config;
    const slots = this.#positions.length;
    const keyPlaces = new Float64Array(slots * groups * width);
    const valuePlaces = new Float64Array(slots * groups);
    for (const [slot, position] of this.#positions.entries()) {
      this.#mask[slot * this.#capacity + position] = 0;
      for (let group = 0; group < groups; group++) {
        const at = slot * groups + group;
        valuePlaces[at] = at * this.#capacity + position;
        for (let i = 0; i < width; i++) keyPlaces[at * width + i] = (at * width + i) * this.#capacity + position;
      }
    }
    const elements = slots * groups * width * this.#capacity;
    const tensors = Object.entries(this.#tensors).map(([name, tensor]) => {
      const shape = name.startsWith('k') ? [elements, 1] : [elements / width, width];
      return [name, { ...tensor, shape }] as const;
    });
    return {
      ...Object.fromEntries(tensors),
      mask: float32([slots, this.#capacity], this.#mask),
      key_places: int64([keyPlaces.length, 1], keyPlaces),
      value_places: int64([valuePlaces.length, 1], valuePlaces),
    };
  }

  /** Where a decode step writes: in place. */
  next(): Record<string, Tensor> {
    const feeds = this.feeds();
    return Object.fromEntries(Object.keys(this.#tensors).map((name) => [`next:${name}`, feeds[name]!]));
  }

  /** Takes in what a decode step wrote. */
  advance(): void {
    this.#positions = this.#positions.map((position) => position + 1);
  }

  /** Drops all slots but the given ones (rising). */
  async keep(kept: readonly number[]): Promise<void> {
    const tensors = this.#allocate(this.#shape(kept.length));
    await this.#programs.keep.run(
      { ...this.#asSlots(this.#tensors), kept: int32([kept.length], Int32Array.from(kept)) },
      { into: prefixed('kept:', tensors) },
    );
    release(this.#tensors);
    this.#tensors = tensors;
    const mask = new Float32Array(kept.length * this.#capacity);
    for (const [to, from] of kept.entries()) {
      mask.set(this.#mask.subarray(from * this.#capacity, (from + 1) * this.#capacity), to * this.#capacity);
    }
    this.#mask = mask;
    this.#positions = kept.map((slot) => this.#positions[slot]!);
  }

  release(): void {
    release(this.#tensors);
    this.#tensors = {};
  }

  async #join(added: CacheTensors, count: number): Promise<void> {
    if (this.#positions.length === 0) {
      this.#tensors = added;
      return;
    }
    const joined = this.#allocate(this.#shape(this.#positions.length + count));
    await this.#programs.join.run(
      { ...this.#asSlots(this.#tensors), ...prefixed('more:', added) },
      { into: prefixed('joined:', joined) },
    );
    release(this.#tensors);
    release(added);
    this.#tensors = joined;
  }

  #asSlots(tensors: CacheTensors): CacheTensors {
    const shape = this.#shape(this.#positions.length);
    return Object.fromEntries(Object.entries(tensors).map(([name, tensor]) => [name, { ...tensor, shape }]));
  }

  #shape(slots: number): number[] {
    return [slots, this.#config.numKeyValueHeads * this.#config.headDim * this.#capacity];
  }

  #allocate(shape: readonly number[]): CacheTensors {
    return Object.fromEntries(cacheNames(this.#config).map((name) => [name, this.#memory.allocate('float32', shape)]));
  }
}

function prefixed(prefix: string, tensors: CacheTensors): CacheTensors {
  return Object.fromEntries(Object.entries(tensors).map(([name, tensor]) => [prefix + name, tensor]));
}

function release(tensors: CacheTensors): void {
  for (const { buffer } of Object.values(tensors)) buffer.release();
}
