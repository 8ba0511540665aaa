import { describe, expect, it } from 'vitest';
import { RandomStream } from '../engine/random.ts';
import { bootstrapMean, comparePaired, mcNemarExact, quantile, shareEstimate, wilsonInterval } from './statistics.ts';

const outcomes = (right: number, wrong: number): number[] => [
  ...new Array<number>(right).fill(1),
  ...new Array<number>(wrong).fill(0),
];

// Many resamples, so that the interval is that of the exact bootstrap distribution up to one item.
const precise = { seed: 1, resamples: 60_000 };

describe('bootstrapMean()', () => {
  // The bootstrap distribution of k right of n is Binomial(n, k/n) / n; its 2.5 % and 97.5 % points were computed with
  // CPython fractions and math.comb.
  it('gives the binomial quantiles for one sample of right and wrong', async () => {
    const estimate = await bootstrapMean([outcomes(260, 140)], precise);
    expect(estimate).toMatchObject({ value: 0.65, n: 400 });
    expect(Math.abs(estimate.low - 0.6025)).toBeLessThanOrEqual(1 / 400 + 1e-9);
    expect(Math.abs(estimate.high - 0.6975)).toBeLessThanOrEqual(1 / 400 + 1e-9);
  });

  // Exact: the convolution of Binomial(100, 0.3) / 200 and Binomial(50, 0.8) / 100, as above.
  it('weighs strata equally and resamples within each', async () => {
    const estimate = await bootstrapMean([outcomes(30, 70), outcomes(40, 10)], precise);
    expect(estimate.value).toBeCloseTo(0.55, 12);
    expect(estimate.n).toBe(150);
    expect(Math.abs(estimate.low - 0.475)).toBeLessThanOrEqual(0.005 + 1e-9);
    expect(Math.abs(estimate.high - 0.62)).toBeLessThanOrEqual(0.005 + 1e-9);
  });

  it('gives the same interval for the same seed and another for another', async () => {
    const sample = [[0.1, 0.7, 0.3, 0.9, 0.55, 0.2, 0.81, 0.4]];
    const third = await bootstrapMean(sample, { seed: 3 });
    expect(await bootstrapMean(sample, { seed: 3 })).toEqual(third);
    expect(await bootstrapMean(sample, { seed: 4 })).not.toEqual(third);
  });

  it('covers the true mean as often as it says', async () => {
    let covered = 0;
    for (let trial = 0; trial < 400; trial++) {
      const stream = new RandomStream(trial, 'statistics.test');
      const sample = Array.from({ length: 150 }, () => Number(stream.uniform() < 0.3));
      const { low, high } = await bootstrapMean([sample], { seed: trial, resamples: 400 });
      if (low <= 0.3 && high >= 0.3) covered++;
    }
    // 95 % of 400, give or take four standard deviations
    expect(covered / 400).toBeGreaterThan(0.906);
    expect(covered / 400).toBeLessThan(0.994);
  });

  it('narrows with a lower level', async () => {
    const sample = [outcomes(50, 50)];
    const wide = await bootstrapMean(sample, { seed: 1 });
    const narrow = await bootstrapMean(sample, { seed: 1, level: 0.5 });
    expect(narrow.high - narrow.low).toBeLessThan(0.5 * (wide.high - wide.low));
  });

  it('lets the event loop have its turns', async () => {
    let turns = 0;
    const timer = setInterval(() => turns++, 1);
    await bootstrapMean([outcomes(300, 300)], { seed: 1, resamples: 60_000 });
    clearInterval(timer);
    expect(turns).toBeGreaterThan(2);
  });

  it('refuses an empty stratum', async () => {
    await expect(bootstrapMean([[1], []], { seed: 1 })).rejects.toThrow(RangeError);
    await expect(bootstrapMean([], { seed: 1 })).rejects.toThrow(RangeError);
  });
});

describe('quantile()', () => {
  // numpy 2.4.6: numpy.quantile([1, 2, 4, 8], [0, 0.25, 0.5, 0.9, 1]) == [1, 1.75, 3, 6.8, 8]
  it('interpolates linearly', () => {
    const points = [0, 0.25, 0.5, 0.9, 1].map((probability) => quantile([1, 2, 4, 8], probability));
    for (const [index, expected] of [1, 1.75, 3, 6.8, 8].entries()) expect(points[index]).toBeCloseTo(expected, 12);
  });
});

describe('mcNemarExact()', () => {
  // min(1, 2 sum C(n, k) / 2^n) with CPython fractions
  it.each([
    [0, 0, 1],
    [0, 1, 1],
    [7, 7, 1],
    [0, 6, 0.03125],
    [5, 15, 0.04138946533203125],
    [15, 5, 0.04138946533203125],
    [30, 61, 0.0015165131944572215],
    [300, 380, 0.0024248687076998945],
    [4000, 4300, 0.001029736761268161],
    [2, 1000, 2.3448435067617075e-296],
  ])('gives the exact p-value for %i against %i discordant items', (onlyA, onlyB, expected) => {
    expect(mcNemarExact(onlyA, onlyB) / expected).toBeCloseTo(1, 9);
  });
});

describe('comparePaired()', () => {
  const repeat = (count: number, value: boolean) => new Array<boolean>(count).fill(value);
  // 200 items: 100 both right, 20 only a, 44 only b, 36 neither.
  const a = [...repeat(100, true), ...repeat(20, true), ...repeat(44, false), ...repeat(36, false)];
  const b = [...repeat(100, true), ...repeat(20, false), ...repeat(44, true), ...repeat(36, false)];

  // Exact bootstrap distribution: a difference of trinomial(200; 0.1, 0.22) counts, summed with CPython.
  it('gives the difference with the quantiles of the trinomial distribution', async () => {
    const { difference, onlyA, onlyB, pValue } = await comparePaired([a], [b], precise);
    expect({ onlyA, onlyB }).toEqual({ onlyA: 20, onlyB: 44 });
    expect(difference.value).toBeCloseTo(0.12, 12);
    expect(Math.abs(difference.low - 0.045)).toBeLessThanOrEqual(1 / 200 + 1e-9);
    expect(Math.abs(difference.high - 0.195)).toBeLessThanOrEqual(1 / 200 + 1e-9);
    expect(pValue).toBe(mcNemarExact(20, 44));
  });

  it('pools the discordant items of all strata and averages their differences', async () => {
    const comparison = await comparePaired(
      [
        [true, false],
        [false, false, false, false],
      ],
      [
        [true, true],
        [true, false, false, false],
      ],
      {
        seed: 1,
      },
    );
    expect(comparison).toMatchObject({ onlyA: 0, onlyB: 2, pValue: 0.5 });
    expect(comparison.difference.value).toBeCloseTo((1 / 2 + 1 / 4) / 2, 12);
  });

  it('refuses outcomes of different items', async () => {
    await expect(comparePaired([[true]], [[true, false]], { seed: 1 })).rejects.toThrow(RangeError);
  });
});

describe('wilsonInterval()', () => {
  it('agrees with the closed form', () => {
    // Python 3, statistics.NormalDist().inv_cdf(0.975) in Wilson's formula.
    const cases = [
      [0, 10, 0, 0.2775327998628892],
      [10, 10, 0.7224672001371107, 1],
      [3, 10, 0.1077912674063, 0.6032218525388],
    ] as const;
    for (const [k, n, low, high] of cases) {
      const interval = wilsonInterval(k, n);
      expect(interval.low).toBeCloseTo(low, 7);
      expect(interval.high).toBeCloseTo(high, 7);
    }
  });
});

describe('shareEstimate()', () => {
  const options = { seed: 0, resamples: 500 };

  it('has width where all items are right or all wrong', async () => {
    const all = await shareEstimate([new Array(20).fill(true)], options);
    expect(all).toMatchObject({ value: 1, high: 1, n: 20 });
    expect(all.low).toBeCloseTo(0.8388748, 6);
    expect((await shareEstimate([new Array(20).fill(false)], options)).high).toBeCloseTo(0.1611252, 6);
    const mixed = await shareEstimate([new Array(20).fill(true), [true, false, true, false]], options);
    expect(mixed.value).toBe(0.75);
    expect(mixed.low).toBeLessThan(0.65);
    expect(mixed.high).toBeGreaterThan(0.8);
  });

  it('is the bootstrap otherwise', async () => {
    const outcomes = [true, false, true, true];
    expect(await shareEstimate([outcomes], options)).toEqual(await bootstrapMean([outcomes.map(Number)], options));
  });
});
