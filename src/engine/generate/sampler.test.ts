import { describe, expect, it } from 'vitest';
import { RandomStream } from '../random.ts';
import { PLAIN_SAMPLING } from './plain-sampling.ts';
import { Sampler } from './sampler.ts';
import type { SamplingOptions } from './types.ts';

const PLAIN: SamplingOptions = {
  maxNewTokens: 1,
  ...PLAIN_SAMPLING,
};

/** How often each token is drawn. */
function counts(options: Partial<SamplingOptions>, row: readonly number[], draws: number) {
  const sampler = new Sampler({ ...PLAIN, ...options }, row.length);
  const stream = new RandomStream('sampler', JSON.stringify(options));
  const result = new Array<number>(row.length).fill(0);
  const given = Float32Array.from(row);
  for (let i = 0; i < draws; i++) result[sampler.pick(given, stream)]!++;
  expect(Array.from(given)).toEqual(Array.from(Float32Array.from(row)));
  return result;
}

function chiSquare(observed: readonly number[], probabilities: readonly number[]): number {
  const draws = observed.reduce((a, b) => a + b, 0);
  return observed.reduce((sum, count, v) => {
    const expected = draws * probabilities[v]!;
    return expected === 0 ? sum + (count === 0 ? 0 : Infinity) : sum + (count - expected) ** 2 / expected;
  }, 0);
}

const ROW = [0.05, 0.3, 0, 0.1, 0.25, 0.2, 0.1];

/** Rows long enough that the likeliest tokens are sorted, not searched: token v has weight (v * 7) % 40 + 1. */
const LONG = (() => {
  const weights = Array.from({ length: 40 }, (_, v) => ((v * 7) % 40) + 1);
  const sum = weights.reduce((a, b) => a + b, 0);
  return weights.map((weight) => weight / sum);
})();

/** 0.999 quantiles of chi-square by degrees of freedom. */
const QUANTILE: Readonly<Record<number, number>> = { 1: 10.8, 2: 13.8, 4: 18.5, 5: 20.5, 19: 43.8, 39: 72.1 };

/** The token that a search over the sorted row gives for a uniform number. */
function searched(row: readonly number[], uniform: number, topK: number, topP: number): number {
  const order = row.map((_, v) => v).sort((a, b) => row[b]! - row[a]! || a - b);
  const kept = order.slice(0, topK || row.length).filter((v) => row[v]! > 0);
  const mass = topK ? kept.reduce((sum, v) => sum + row[v]!, 0) : 1;
  let sum = 0;
  const fewest = kept.filter((v, i) => {
    const isKept = i === 0 || topP === 1 || sum < topP * mass;
    if (isKept) sum += row[v]!;
    return isKept;
  });
  let left = uniform * sum;
  return fewest.find((v) => (left -= row[v]!) < 0) ?? fewest.at(-1)!;
}

describe('Sampler', () => {
  it('draws tokens as often as their probabilities say', () => {
    expect(chiSquare(counts({}, ROW, 20_000), ROW)).toBeLessThan(QUANTILE[5]!);
    expect(chiSquare(counts({}, LONG, 20_000), LONG)).toBeLessThan(QUANTILE[39]!);
  });

  it('takes the first of the likeliest tokens at temperature 0', () => {
    expect(counts({ temperature: 0 }, [0.1, 0.4, 0.4, 0.1], 3)).toEqual([0, 3, 0, 0]);
  });

  it('asks the graph for what the options need, and for no softmax where only the likeliest token counts', () => {
    const ruleOf = (options: Partial<SamplingOptions>) => new Sampler({ ...PLAIN, ...options }, 4).rule;
    const plain = { kind: 'probabilities', hasPenalty: false, hasBans: false, hasTemperature: false };
    expect(ruleOf({})).toEqual(plain);
    expect(ruleOf({ temperature: 0.5, bannedTokenIds: [1] })).toEqual({
      ...plain,
      hasBans: true,
      hasTemperature: true,
    });
    expect(ruleOf({ temperature: 0, repetitionPenalty: 1.1 })).toEqual({ ...plain, kind: 'logits', hasPenalty: true });
    expect(new Sampler({ ...PLAIN, temperature: 0.5 }, 4).inverseTemperature).toBe(2);
    expect(new Sampler({ ...PLAIN, temperature: 0 }, 4).inverseTemperature).toBe(1);
  });

  it('keeps the top-k tokens, the smaller id first among equals', () => {
    const kept = counts({ topK: 2 }, ROW, 5000);
    expect(chiSquare(kept, [0, 0.3 / 0.55, 0, 0, 0.25 / 0.55, 0, 0])).toBeLessThan(QUANTILE[1]!);
    expect(counts({ topK: 1 }, [0.1, 0.45, 0.45], 50)).toEqual([0, 50, 0]);
  });

  it('keeps the fewest likeliest tokens that reach top-p', () => {
    // 0.3 + 0.25 < 0.6 <= 0.3 + 0.25 + 0.2
    const kept = counts({ topP: 0.6 }, ROW, 5000);
    expect(chiSquare(kept, [0, 0.4, 0, 0, 0.25 / 0.75, 0.2 / 0.75, 0])).toBeLessThan(QUANTILE[2]!);
    expect(counts({ topP: 0.01 }, ROW, 50)).toEqual([0, 50, 0, 0, 0, 0, 0]);
  });

  it('takes top-p of what top-k keeps', () => {
    // Top-3 keeps 0.75; 0.7 of it is 0.525, which two tokens reach.
    const kept = counts({ topK: 3, topP: 0.7 }, ROW, 5000);
    expect(chiSquare(kept, [0, 0.3 / 0.55, 0, 0, 0.25 / 0.55, 0, 0])).toBeLessThan(QUANTILE[1]!);
  });

  it('finds many tokens by sorting as it would by searching', () => {
    const order = LONG.map((_, v) => v).sort((a, b) => LONG[b]! - LONG[a]!);
    const top = order.slice(0, 20);
    const mass = top.reduce((sum, v) => sum + LONG[v]!, 0);
    const renormalised = LONG.map((p, v) => (top.includes(v) ? p / mass : 0));
    expect(chiSquare(counts({ topK: 20 }, LONG, 20_000), renormalised)).toBeLessThan(QUANTILE[19]!);
    // The twenty largest weights, 40 to 21, have 610 of 820; without the last of them it is 589.
    expect(chiSquare(counts({ topP: 600 / 820 }, LONG, 20_000), renormalised)).toBeLessThan(QUANTILE[19]!);
    expect(chiSquare(counts({ topK: 30, topP: 600 / 765 }, LONG, 20_000), renormalised)).toBeLessThan(QUANTILE[19]!);
  });

  it.each([
    ['one bucket', 1e-6],
    ['many buckets', 3],
    ['mostly one token', 30],
  ])('draws from a row of 2000 tokens in %s what a search over all of them gives', (_, spread) => {
    const stream = new RandomStream('rows', spread);
    for (let round = 0; round < 60; round++) {
      const weights = Array.from({ length: 2000 }, () => Math.exp(spread * stream.normal()));
      const sum = weights.reduce((a, b) => a + b, 0);
      const row = Array.from(Float32Array.from(weights, (weight) => weight / sum));
      const topK = [0, 1, 7, 900][round % 4]!;
      const topP = [1, 0.99, 0.5, 0.05][Math.floor(round / 4) % 4]!;
      const uniform = stream.uniform();
      const fixed = { uniform: () => uniform } as RandomStream;
      if (topK === 0 && topP === 1) continue;
      const got = new Sampler({ ...PLAIN, topK, topP }, 2000).pick(Float32Array.from(row), fixed);
      expect(got, `round ${round}`).toBe(searched(row, uniform, topK, topP));
    }
  });

  it('never draws a token without probability, nor one past the end of a sum below 1', () => {
    const sampler = new Sampler(PLAIN, 4);
    const almostOne = { uniform: () => 1 - 2 ** -53 } as RandomStream;
    expect(sampler.pick(Float32Array.of(0.25, 0.25, 0.25, 0), almostOne)).toBe(2);
    expect(sampler.pick(Float32Array.of(0, 0.5, 0.5, 0), { uniform: () => 0 } as RandomStream)).toBe(1);
  });

  it('puts bans into the bias that the graph adds', () => {
    const { logitBias } = new Sampler({ ...PLAIN, bannedTokenIds: [1, 3] }, 4);
    expect(Array.from(logitBias)).toEqual([0, -1e9, 0, -1e9]);
  });

  it.each([{}, { temperature: 0 }, { topP: 0.5 }, { repetitionPenalty: 1.1 }])('refuses NaN with %j', (options) => {
    const row = new Float32Array(4).fill(Number.NaN);
    expect(() => new Sampler({ ...PLAIN, ...options }, 4).pick(row, new RandomStream(1))).toThrow(
      expect.objectContaining({ code: 'SCORES_NOT_FINITE' }),
    );
  });

  it.each([
    { temperature: -1 },
    { temperature: Number.NaN },
    { topP: 0 },
    { topP: 1.5 },
    { topK: -1 },
    { topK: 1.5 },
    { maxNewTokens: 0 },
    { repetitionPenalty: 0 },
    { samplesPerRequest: 0 },
    { bannedTokenIds: [7] },
  ])('refuses %j', (options) => {
    expect(() => new Sampler({ ...PLAIN, ...options }, 7)).toThrow(
      expect.objectContaining({ code: 'SAMPLING_INVALID' }),
    );
  });
});
