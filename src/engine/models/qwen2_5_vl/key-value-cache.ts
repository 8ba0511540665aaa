/**
 * The key/value cache of a batch of sequences in host memory, which decoding writes in place. Sequences are right-aligned:
 * all end at time step `length`, shorter ones are masked at their start.
 *
 * A tensor is [S, K, C, D], so that what one head of one sequence reads lies together. The room C is a little more than is
 * needed and grows as the sequences do; what is not in use is masked.
 */
import type { HostTensor } from '../../tensor.ts';
import { MASKED } from './batch.ts';
import type { Qwen25VLConfig } from './config.ts';
import { KeptArrays } from './kept-arrays.ts';

/** Time steps by which the room grows: moving a cache costs about as much as reading it once. */
const GROWTH = 32;

export class KeyValueCache {
  /** Time steps in use. */
  length = 0;
  /** Sequences: S. */
  slots: number;
  readonly #layers: number;
  readonly #groups: number;
  readonly #headDim: number;
  readonly #capacity: number;
  /** C */
  #room = 0;
  /** For each layer keys and values [S, K, C, D]. */
  readonly #tensors: readonly Float32Array[];
  /** [S, C] */
  readonly #mask: Float32Array;
  /** Where the next keys and values go, among the rows of a tensor [S, K]. */
  readonly #rows: BigInt64Array;

  /**
   * @param capacity time steps that the longest sequence needs
   * @param memory where its tensors come from
   * @param name of the cache, among those of the memory
   */
  constructor(config: Qwen25VLConfig, slots: number, capacity: number, memory = new KeptArrays(), name = 'cache') {
    const { numHiddenLayers, numKeyValueHeads, headDim } = config.text;
    this.slots = slots;
    this.#layers = numHiddenLayers;
    this.#groups = numKeyValueHeads;
    this.#headDim = headDim;
    this.#capacity = capacity;
    const size = capacity * slots * numKeyValueHeads * headDim;
    this.#tensors = Array.from({ length: 2 * numHiddenLayers }, (_, i) => memory.take(`${name}:${i}`, size));
    this.#mask = new Float32Array(capacity * slots);
    this.#rows = new BigInt64Array(slots * numKeyValueHeads);
  }

  /** Starts with `length` time steps in which every slot is masked and zero, to be filled with prompts. */
  begin(length: number): void {
    this.length = length;
    this.#room = this.#roomAfter(length);
    const size = this.slots * this.#groups * this.#room * this.#headDim;
    for (const tensor of this.#tensors) tensor.fill(0, 0, size);
    this.#mask.fill(MASKED, 0, this.slots * this.#room);
  }

  /**
   * Copies a prompt, so that it ends at the last time step.
   *
   * @param prefilled outputs `k0`, `v0`, ... [B, K, T, D]
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
    const width = this.#headDim;
    const start = this.length - (end - begin);
    for (let layer = 0; layer < this.#layers; layer++) {
      for (const [part, kind] of ['k', 'v'].entries()) {
        const { data, shape } = prefilled[`${kind}${layer}`]! as HostTensor<'float32'>;
        const tensor = this.#tensors[2 * layer + part]!;
        for (let group = 0; group < this.#groups; group++) {
          const from = (row * this.#groups + group) * shape[2]!;
          const source = data.subarray((from + begin) * width, (from + end) * width);
          for (let slot = first; slot < first + count; slot++) {
            tensor.set(source, ((slot * this.#groups + group) * this.#room + start) * width);
          }
        }
      }
    }
    for (let slot = first; slot < first + count; slot++) {
      this.#mask.fill(0, slot * this.#room + start, slot * this.#room + this.length);
    }
  }

  /**
   * Lets every sequence have one more token, which the coming step writes.
   *
   * @returns whether the cache had to move, so that `feeds()` and `next()` are others than before
   */
  prepareStep(): boolean {
    const moves = this.length === this.#room;
    if (moves) this.#grow();
    const words = new Int32Array(this.#rows.buffer);
    for (let i = 0; i < this.slots * this.#groups; i++) words[2 * i] = i * this.#room + this.length;
    for (let slot = 0; slot < this.slots; slot++) this.#mask[slot * this.#room + this.length] = 0;
    return moves;
  }

  /** Feeds of a decode step; they are views, valid until the cache moves. */
  feeds(): Record<string, HostTensor> {
    const { slots } = this;
    const rows = slots * this.#groups;
    return {
      mask: { dtype: 'float32', shape: [slots, this.#room], data: this.#mask.subarray(0, slots * this.#room) },
      cache_rows: { dtype: 'int64', shape: [rows, 1], data: this.#rows.subarray(0, rows) },
      ...this.#views('past_'),
    };
  }

  /** Where a decode step writes: in place. */
  next(): Record<string, HostTensor> {
    return this.#views('next_');
  }

  /** Takes in what a decode step wrote. */
  advance(): void {
    this.length++;
  }

  /** Its memory is the caller's. */
  release(): void {}

  /** Drops all slots but the given ones (rising), which move together. */
  keep(kept: readonly number[]): void {
    const move = (data: Float32Array, size: number) => {
      for (const [target, slot] of kept.entries()) data.copyWithin(target * size, slot * size, (slot + 1) * size);
    };
    for (const tensor of this.#tensors) move(tensor, this.#groups * this.#room * this.#headDim);
    move(this.#mask, this.#room);
    this.slots = kept.length;
  }

  #roomAfter(length: number): number {
    return Math.min(this.#capacity, length + GROWTH);
  }

  #grow(): void {
    const from = this.#room;
    const to = this.#roomAfter(from);
    this.#room = to;
    for (const tensor of this.#tensors)
      spread(tensor, this.slots * this.#groups, from * this.#headDim, to * this.#headDim, 0);
    spread(this.#mask, this.slots, from, to, MASKED);
  }

  #views(prefix: string): Record<string, HostTensor> {
    const rows = this.slots * this.#groups * this.#room;
    const views: Record<string, HostTensor> = {};
    for (const [i, tensor] of this.#tensors.entries()) {
      const data = tensor.subarray(0, rows * this.#headDim);
      views[`${prefix}${i % 2 === 0 ? 'k' : 'v'}${i >> 1}`] = { dtype: 'float32', shape: [rows, this.#headDim], data };
    }
    return views;
  }
}

/** Moves rows of `from` elements apart, so that each has `to`; what is new is `filler`. */
function spread(data: Float32Array, rows: number, from: number, to: number, filler: number): void {
  for (let row = rows - 1; row >= 0; row--) {
    data.copyWithin(row * to, row * from, (row + 1) * from);
    data.fill(filler, row * to + from, (row + 1) * to);
  }
}
