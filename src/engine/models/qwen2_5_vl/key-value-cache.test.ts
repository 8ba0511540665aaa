import { describe, expect, it } from 'vitest';
import { float32, type HostTensor } from '../../tensor.ts';
import { MASKED } from './batch.ts';
import type { Qwen25VLConfig } from './config.ts';
import { KeptArrays } from './kept-arrays.ts';
import { KeyValueCache } from './key-value-cache.ts';

const CONFIG = { text: { numHiddenLayers: 1, numKeyValueHeads: 2, headDim: 3 } } as Qwen25VLConfig;

/** Keys and values of one prompt whose elements say prompt, head, token and place. */
function prompt(number: number, tokens: number): Record<string, HostTensor> {
  const tensor = (sign: number) => {
    const data = new Float32Array(2 * tokens * 3);
    for (let head = 0; head < 2; head++) {
      for (let t = 0; t < tokens; t++) {
        for (let d = 0; d < 3; d++) data[(head * tokens + t) * 3 + d] = sign * name(number, head, t, d);
      }
    }
    return float32([1, 2, tokens, 3], data);
  };
  return { k0: tensor(1), v0: tensor(-1) };
}

function name(sequence: number, head: number, token: number, d: number): number {
  return ((sequence * 10 + head) * 1000 + token) * 10 + d;
}

/** Writes the tokens of a step as a decode graph does. */
function step(cache: KeyValueCache, sequences: readonly number[], token: (slot: number) => number): boolean {
  const moved = cache.prepareStep();
  const { cache_rows: rows } = cache.feeds();
  const { next_k0: k, next_v0: v } = cache.next();
  sequences.forEach((sequence, slot) => {
    for (let head = 0; head < 2; head++) {
      const row = Number(rows!.data[slot * 2 + head]);
      for (let d = 0; d < 3; d++) {
        (k!.data as Float32Array)[row * 3 + d] = name(sequence, head, token(slot), d);
        (v!.data as Float32Array)[row * 3 + d] = -name(sequence, head, token(slot), d);
      }
    }
  });
  cache.advance();
  return moved;
}

/** The tokens that each slot sees, after checking that all elements of a token are where they belong. */
function seen(cache: KeyValueCache, sequences: readonly number[]): number[][] {
  const { mask, past_k0: k, past_v0: v } = cache.feeds();
  const room = mask!.shape[1]!;
  return sequences.map((sequence, slot) => {
    const steps = Array.from({ length: room }, (_, t) => t).filter((t) => mask!.data[slot * room + t] === 0);
    expect(steps.every((t) => t < cache.length)).toBe(true);
    return steps.map((t) => {
      const at = (head: number) => ((slot * 2 + head) * room + t) * 3;
      const token = (Math.floor(Number(k!.data[at(0)]) / 10) - sequence * 10_000) % 1000;
      for (let head = 0; head < 2; head++) {
        for (let d = 0; d < 3; d++) {
          expect(k!.data[at(head) + d]).toBe(name(sequence, head, token, d));
          expect(v!.data[at(head) + d]).toBe(-name(sequence, head, token, d));
        }
      }
      return token;
    });
  });
}

describe('KeyValueCache', () => {
  it('keeps what it holds while it grows and drops slots', () => {
    // Old contents must not be seen, whatever they are.
    const memory = new KeptArrays();
    for (const tensor of [0, 1]) memory.take(`cache:${tensor}`, 4000).fill(Number.NaN);
    const cache = new KeyValueCache(CONFIG, 4, 100, memory);
    cache.begin(5);
    cache.writePrompt(prompt(0, 5), 0, 5, 0, 2);
    cache.writePrompt(prompt(1, 3), 0, 3, 2, 2);
    const lengths = [5, 5, 3, 3];
    let sequences = [0, 0, 1, 1];
    const expected = lengths.map((length) => Array.from({ length }, (_, t) => t));
    expect(seen(cache, sequences)).toEqual(expected);
    let moves = 0;
    for (let i = 0; i < 95; i++) {
      if (i === 50) {
        cache.keep([1, 3]);
        sequences = [0, 1];
        expected.splice(0, 4, expected[1]!, expected[3]!);
      }
      moves += Number(step(cache, sequences, (slot) => expected[slot]!.length));
      for (const tokens of expected) tokens.push(tokens.length);
      expect(seen(cache, sequences)).toEqual(expected);
    }
    expect(cache.length).toBe(100);
    expect(moves).toBe(2);
    const { mask, past_k0: k } = cache.feeds();
    expect(mask!.shape).toEqual([2, 100]);
    expect(k!.shape).toEqual([2 * 2 * 100, 3]);
    expect([...(k!.data as Float32Array)].every(Number.isFinite)).toBe(true);
  });

  it('masks the steps before a short prompt and after the last one', () => {
    const cache = new KeyValueCache(CONFIG, 1, 40);
    cache.begin(4);
    cache.writePrompt(prompt(0, 2), 0, 2, 0, 1);
    expect(cache.prepareStep()).toBe(false);
    const { mask } = cache.feeds();
    const shown = [...mask!.data].map((value) => (value === 0 ? 1 : value === MASKED ? 0 : -1));
    expect(shown.slice(0, 6)).toEqual([0, 0, 1, 1, 1, 0]);
    expect(new Set(shown.slice(6))).toEqual(new Set([0]));
  });
});
