/**
 * The key/value cache of sequences of which several continue one prompt: a prompt's keys and values are held once. Its
 * last token is copied to every sequence, so that the part that each has to itself is never empty and never masked.
 */
import { type HostTensor, int32 } from '../../tensor.ts';
import type { Qwen25VLConfig } from './config.ts';
import { KeptArrays } from './kept-arrays.ts';
import { KeyValueCache } from './key-value-cache.ts';

export class SharedPrefixCache {
  readonly #prompts: KeyValueCache;
  readonly #sequences: KeyValueCache;
  /** Prompt of every sequence, rising. */
  #promptOf: readonly number[];
  #grid: Readonly<Record<string, HostTensor>>;

  /**
   * @param promptOf for every sequence the number of its prompt, rising from 0
   * @param longest tokens of the longest prompt, at least 2
   */
  constructor(
    config: Qwen25VLConfig,
    promptOf: readonly number[],
    longest: number,
    maxNewTokens: number,
    memory = new KeptArrays(),
  ) {
    this.#prompts = new KeyValueCache(config, promptOf.at(-1)! + 1, longest - 1, memory, 'prompts');
    this.#prompts.begin(longest - 1);
    this.#sequences = new KeyValueCache(config, promptOf.length, maxNewTokens, memory, 'sequences');
    this.#sequences.begin(1);
    this.#promptOf = promptOf;
    this.#grid = gridOf(promptOf);
  }

  /**
   * Copies a prompt.
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
    this.#prompts.writeTokens(prefilled, row, [0, tokens - 1], this.#promptOf[first]!, 1);
    this.#sequences.writeTokens(prefilled, row, [tokens - 1, tokens], first, count);
  }

  /**
   * Lets every sequence have one more token, which the coming step writes.
   *
   * @returns whether the cache had to move, so that `feeds()` and `next()` are others than before
   */
  prepareStep(): boolean {
    return this.#sequences.prepareStep();
  }

  /** Feeds of a decode step; they are views, valid until the cache moves. */
  feeds(): Record<string, HostTensor> {
    const feeds = this.#sequences.feeds();
    const { mask, cache_rows: _, ...tensors } = this.#prompts.feeds();
    feeds['prefix_mask'] = mask!;
    for (const [name, tensor] of Object.entries(tensors)) feeds[name.replace('past_', 'prefix_')] = tensor;
    return { ...feeds, ...this.#grid };
  }

  /** Where a decode step writes: in place. */
  next(): Record<string, HostTensor> {
    return this.#sequences.next();
  }

  /** Takes in what a decode step wrote. */
  advance(): void {
    this.#sequences.advance();
  }

  /** Its memory is the caller's. */
  release(): void {}

  /** Drops all slots but the given ones (rising), and prompts that none of them continues. */
  keep(kept: readonly number[]): void {
    this.#sequences.keep(kept);
    const prompts = kept.map((slot) => this.#promptOf[slot]!);
    const live = [...new Set(prompts)];
    if (live.length < this.#prompts.slots) this.#prompts.keep(live);
    const place = new Map(live.map((prompt, i) => [prompt, i]));
    this.#promptOf = prompts.map((prompt) => place.get(prompt)!);
    this.#grid = gridOf(this.#promptOf);
  }
}

/** A grid of prompts and places for their sequences; empty places repeat the first sequence of their prompt. */
function gridOf(promptOf: readonly number[]): Record<string, HostTensor> {
  const members: number[][] = [];
  for (const [sequence, prompt] of promptOf.entries()) {
    members[prompt] ??= [];
    members[prompt].push(sequence);
  }
  const width = members.reduce((most, { length }) => Math.max(most, length), 0);
  const toGrid = new Int32Array(members.length * width);
  const fromGrid = new Int32Array(promptOf.length);
  for (const [prompt, sequences] of members.entries()) {
    for (let place = 0; place < width; place++) toGrid[prompt * width + place] = sequences[place] ?? sequences[0]!;
    for (const [place, sequence] of sequences.entries()) fromGrid[sequence] = prompt * width + place;
  }
  return { to_grid: int32([members.length, width], toGrid), from_grid: int32([promptOf.length], fromGrid) };
}
