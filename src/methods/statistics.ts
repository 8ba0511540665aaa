/**
 * Confidence intervals of accuracies and paired comparison of two models on the same test items.
 */

import { RandomStream } from '../engine/random.ts';
import { isTurnDue, takeTurn } from '../engine/turn.ts';

export interface Estimate {
  readonly value: number;
  /** Ends of the confidence interval. */
  readonly low: number;
  readonly high: number;
  /** Items behind the value, over all strata. */
  readonly n: number;
}

export interface BootstrapOptions {
  readonly seed: number;
  /** @default 2000 */
  readonly resamples?: number;
  /** Coverage of the interval. @default 0.95 */
  readonly level?: number;
}

/**
 * Mean with its bootstrap percentile interval. With several strata: the unweighted mean of the strata's means, each
 * stratum resampled within itself.
 *
 * strata  one or more non-empty lists of per-item values, e.g. 0 and 1 for wrong and right
 *
 * NOTE: where all values of every stratum are equal, the resamples are too and the interval has no width.
 *
 * @throws RangeError without strata or with an empty one
 * @see Efron & Tibshirani 1993, An Introduction to the Bootstrap, chapter 13
 */
export async function bootstrapMean(
  strata: readonly ArrayLike<number>[],
  options: BootstrapOptions,
): Promise<Estimate> {
  const { seed, resamples = 2000, level = 0.95 } = options;
  if (strata.length === 0 || strata.some((stratum) => stratum.length === 0)) {
    throw new RangeError('a mean needs at least one item in every stratum');
  }
  const samples = strata.map((stratum) => Float64Array.from(stratum));
  const nextUint32 = fastUint32(new RandomStream(seed, 'bootstrap'));
  const means = new Float64Array(resamples);
  for (let resample = 0; resample < resamples; resample++) {
    let mean = 0;
    for (const sample of samples) mean += resampledSum(sample, nextUint32) / sample.length;
    means[resample] = mean / samples.length;
    if (isTurnDue()) await takeTurn();
  }
  means.sort();
  let value = 0;
  let n = 0;
  for (const sample of samples) {
    value += sample.reduce((sum, x) => sum + x, 0) / sample.length;
    n += sample.length;
  }
  const tail = (1 - level) / 2;
  return { value: value / samples.length, low: quantile(means, tail), high: quantile(means, 1 - tail), n };
}

/** 97.5 % quantile of the standard normal distribution. */
const Z95 = 1.959963984540054;

/**
 * Wilson's 95 % score interval of a share: it has width also where all or none of the items succeed.
 *
 * @see Wilson 1927, doi:10.1080/01621459.1927.10502953
 */
export function wilsonInterval(successes: number, n: number): { readonly low: number; readonly high: number } {
  const share = successes / n;
  const z2 = Z95 ** 2;
  const centre = (share + z2 / (2 * n)) / (1 + z2 / n);
  const half = (Z95 / (1 + z2 / n)) * Math.sqrt((share * (1 - share)) / n + z2 / (4 * n * n));
  return {
    low: successes === 0 ? 0 : Math.max(0, centre - half),
    high: successes === n ? 1 : Math.min(1, centre + half),
  };
}

/**
 * Share of successes, averaged over strata, with its 95 % interval: the bootstrap's, or, where a stratum has only
 * successes or none, one put together from the strata's Wilson intervals, since resampling such a stratum tells nothing.
 *
 * @see Zou & Donner 2008, doi:10.1002/sim.3095, for the combination
 */
export async function shareEstimate(strata: readonly Outcomes[], options: BootstrapOptions): Promise<Estimate> {
  const isUniform = (stratum: Outcomes) => stratum.every((outcome) => outcome === stratum[0]);
  if (!strata.some(isUniform)) {
    return bootstrapMean(
      strata.map((stratum) => stratum.map(Number)),
      options,
    );
  }
  let value = 0;
  let below = 0;
  let above = 0;
  for (const stratum of strata) {
    const successes = stratum.filter(Boolean).length;
    const share = successes / stratum.length;
    const { low, high } = wilsonInterval(successes, stratum.length);
    value += share / strata.length;
    below += ((share - low) / strata.length) ** 2;
    above += ((high - share) / strata.length) ** 2;
  }
  return {
    value,
    low: Math.max(0, value - Math.sqrt(below)),
    high: Math.min(1, value + Math.sqrt(above)),
    n: strata.reduce((sum, stratum) => sum + stratum.length, 0),
  };
}

function resampledSum(sample: Float64Array, nextUint32: () => number): number {
  const size = sample.length;
  const scale = size / 2 ** 32;
  let sum = 0;
  for (let draw = 0; draw < size; draw++) sum += sample[Math.floor(nextUint32() * scale)]!;
  return sum;
}

/** Quantile of ascending values with linear interpolation between order statistics. */
export function quantile(sorted: ArrayLike<number>, probability: number): number {
  const position = probability * (sorted.length - 1);
  const below = Math.floor(position);
  const low = sorted[below]!;
  const high = sorted[Math.min(below + 1, sorted.length - 1)]!;
  return low + (high - low) * (position - below);
}

/**
 * xoshiro128++ with its state drawn from a counter-based stream: a resample needs one number per item, and this one
 * costs a few nanoseconds.
 *
 * @see Blackman & Vigna 2021, "Scrambled linear pseudorandom number generators"
 */
function fastUint32(stream: RandomStream): () => number {
  let [a, b, c, d] = [stream.uint32() | 1, stream.uint32() | 0, stream.uint32() | 0, stream.uint32() | 0];
  return () => {
    const sum = (a + d) | 0;
    const result = (((sum << 7) | (sum >>> 25)) + a) >>> 0;
    const shifted = b << 9;
    c ^= a;
    d ^= b;
    b ^= c;
    a ^= d;
    c ^= shifted;
    d = (d << 11) | (d >>> 21);
    return result;
  };
}

/** Right or wrong for each item of one model, in an order that both models share. */
export type Outcomes = readonly boolean[];

export interface PairedComparison {
  /** Accuracy of `b` minus accuracy of `a`, averaged over strata, in [-1, 1]. */
  readonly difference: Estimate;
  /** Two-sided exact McNemar p-value over the items of all strata together. */
  readonly pValue: number;
  /** Items that only `a` gets right, and only `b`. */
  readonly onlyA: number;
  readonly onlyB: number;
}

/**
 * Compares two models on the same items.
 *
 * a, b  per stratum (e.g. seen, unseen) the outcomes of the same items in the same order
 *
 * @throws RangeError when the two differ in strata or items
 */
export async function comparePaired(
  a: readonly Outcomes[],
  b: readonly Outcomes[],
  options: BootstrapOptions,
): Promise<PairedComparison> {
  if (a.length !== b.length || a.some((stratum, index) => stratum.length !== b[index]!.length)) {
    throw new RangeError('a paired comparison needs the same items on both sides');
  }
  let onlyA = 0;
  let onlyB = 0;
  const differences = a.map((stratum, index) =>
    stratum.map((rightA, item) => {
      const rightB = b[index]![item]!;
      if (rightA && !rightB) onlyA++;
      if (rightB && !rightA) onlyB++;
      return Number(rightB) - Number(rightA);
    }),
  );
  const difference = await differenceEstimate(differences, options);
  return { difference, pValue: mcNemarExact(onlyA, onlyB), onlyA, onlyB };
}

/**
 * Mean difference with its interval; where both sides agree on every item, as far to both sides as the share of items on
 * which they differ may lie above 0.
 */
async function differenceEstimate(strata: readonly number[][], options: BootstrapOptions): Promise<Estimate> {
  if (strata.some((stratum) => stratum.some((difference) => difference !== 0))) return bootstrapMean(strata, options);
  const n = strata.reduce((sum, stratum) => sum + stratum.length, 0);
  const { high } = wilsonInterval(0, n);
  return { value: 0, low: -high, high, n };
}

/**
 * Two-sided exact McNemar test: under the hypothesis of equal accuracy each discordant item falls to either side with
 * probability 1/2. p = min(1, 2 P(X <= min(onlyA, onlyB))), X ~ Binomial(onlyA + onlyB, 1/2).
 *
 * @see McNemar 1947, doi:10.1007/BF02295996
 */
export function mcNemarExact(onlyA: number, onlyB: number): number {
  const trials = onlyA + onlyB;
  const fewer = Math.min(onlyA, onlyB);
  // Terms run from the largest, P(X = fewer), downwards; each is the one above times k / (trials - k + 1).
  let logTerm = -trials * Math.LN2;
  for (let k = 1; k <= fewer; k++) logTerm += Math.log((trials - k + 1) / k);
  let relativeSum = 0;
  let relativeTerm = 1;
  for (let k = fewer; k >= 0 && relativeTerm > 0; k--) {
    relativeSum += relativeTerm;
    relativeTerm *= k / (trials - k + 1);
  }
  return Math.min(1, 2 * Math.exp(logTerm) * relativeSum);
}
