import { describe, expect, it } from 'vitest';
import { RandomStream } from '../random.ts';
import { Sampler } from './sampler.ts';
import type { SamplingOptions } from './types.ts';

const PLAIN: SamplingOptions = {
  maxNewTokens: 1,
  temperature: 1,
  topP: 1,
  topK: 0,
  repetitionPenalty: 1,
  stopTokenIds: [],
  bannedTokenIds: [],
  samplesPerRequest: 1,
};

/** How often each token is drawn. */
function counts(options: Partial<SamplingOptions>, row: readonly number[], draws: number, seen: number[] = []) {
  const sampler = new Sampler({ ...PLAIN, ...options }, row.length);
  const stream = new RandomStream('sampler', JSON.stringify(options));
  const result = new Array<number>(row.length).fill(0);
  const given = Float32Array.from(row);
  for (let i = 0; i < draws; i++) result[sampler.pick(given, stream, seen)]!++;
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

function softmax(logits: readonly number[]): number[] {
  const weights = logits.map((logit) => Math.exp(logit));
  const sum = weights.reduce((a, b) => a + b, 0);
  return weights.map((weight) => weight / sum);
}

/** 0.999 quantiles of chi-square by degrees of freedom. */
const QUANTILE: Readonly<Record<number, number>> = { 1: 10.8, 2: 13.8, 4: 18.5, 5: 20.5, 19: 43.8, 39: 72.1 };

describe('Sampler', () => {
  it('draws tokens as often as their probabilities say', () => {
    expect(chiSquare(counts({}, ROW, 20_000), ROW)).toBeLessThan(QUANTILE[5]!);
    expect(chiSquare(counts({}, LONG, 20_000), LONG)).toBeLessThan(QUANTILE[39]!);
  });

  it('takes the first of the likeliest tokens at temperature 0', () => {
    expect(counts({ temperature: 0 }, [0.1, 0.4, 0.4, 0.1], 3)).toEqual([0, 3, 0, 0]);
  });

  it('leaves the temperature of probabilities to the graph', () => {
    expect(new Sampler({ ...PLAIN, temperature: 0.5 }, 4)).toMatchObject({
      scores: 'probabilities',
      inverseTemperature: 2,
    });
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

  it('never draws a token without probability, nor one past the end of a sum below 1', () => {
    const sampler = new Sampler(PLAIN, 4);
    const almostOne = { uniform: () => 1 - 2 ** -53 } as RandomStream;
    expect(sampler.pick(Float32Array.of(0.25, 0.25, 0.25, 0), almostOne, [])).toBe(2);
    expect(sampler.pick(Float32Array.of(0, 0.5, 0.5, 0), { uniform: () => 0 } as RandomStream, [])).toBe(1);
  });

  it('divides positive and multiplies negative logits of seen tokens by the penalty, each once', () => {
    const logits = [1, 0.9, -1, -1.2, 0];
    const penalised = [0.5, 0.9, -2, -1.2, 0];
    const options = { repetitionPenalty: 2 };
    expect(new Sampler({ ...PLAIN, ...options }, 5).scores).toBe('logits');
    expect(chiSquare(counts(options, logits, 20_000, [0, 2]), softmax(penalised))).toBeLessThan(QUANTILE[4]!);
    expect(counts({ ...options, temperature: 0 }, logits, 1)).toEqual([1, 0, 0, 0, 0]);
    expect(counts({ ...options, temperature: 0 }, logits, 1, [0, 2])).toEqual([0, 1, 0, 0, 0]);
  });

  it('applies penalty, bans, temperature, top-k and top-p to logits in this order', () => {
    const logits = [1, 0.9, 3, 0.4, 0];
    const options = { repetitionPenalty: 2, temperature: 0.5, bannedTokenIds: [2], topK: 3, topP: 0.9 };
    // Penalised and halved temperature: 1, 1.8, banned, 0.8, 0; top-3 are 1, 0, 3 with shares 0.55, 0.25, 0.2.
    const [a, b, c] = softmax([1, 1.8, 0.8]) as [number, number, number];
    expect(a + b).toBeLessThan(0.9);
    expect(chiSquare(counts(options, logits, 20_000, [0]), [a, b, 0, c, 0])).toBeLessThan(QUANTILE[2]!);
    const narrower = { ...options, topP: 0.75 };
    expect(chiSquare(counts(narrower, logits, 20_000, [0]), [a / (a + b), b / (a + b), 0, 0, 0])).toBeLessThan(
      QUANTILE[1]!,
    );
  });

  it('puts bans into the bias that the graph adds', () => {
    const { logitBias } = new Sampler({ ...PLAIN, bannedTokenIds: [1, 3] }, 4);
    expect(Array.from(logitBias)).toEqual([0, -1e9, 0, -1e9]);
  });

  it.each([{}, { temperature: 0 }, { topP: 0.5 }, { repetitionPenalty: 1.1 }])('refuses NaN with %j', (options) => {
    const row = new Float32Array(4).fill(Number.NaN);
    expect(() => new Sampler({ ...PLAIN, ...options }, 4).pick(row, new RandomStream(1), [])).toThrow(
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
