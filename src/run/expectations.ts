/** Tests the gates under a stage's `expect` against its metrics. Pure. */
import type { BetterThan, Expectation } from '../config/types.ts';
import type { BetterThanRecord, ExpectationRecord } from './events.ts';
import type { Metric } from './stage-api.ts';

/** 0.5 - 0.48 is a little more than 0.02 in binary. */
const ROUNDING = 1e-12;

type Metrics = Readonly<Record<string, Metric>>;

/**
 * Every gate with what it found; a metric that the stage did not return meets none. `metricsOf` gives those of the stages
 * that gates compare with.
 */
export function checkExpectations(
  expectations: readonly Expectation[],
  metrics: Metrics,
  metricsOf: (stage: string) => Metrics,
): readonly ExpectationRecord[] {
  return expectations.map(({ metric, atLeast, atMost, within, betterThan }) => {
    const got = metrics[metric] ?? null;
    const compared = betterThan && compare(got, betterThan, metricsOf(betterThan.stage)[betterThan.metric]);
    const met =
      got !== null &&
      (atLeast === undefined || got.value >= atLeast) &&
      (atMost === undefined || got.value <= atMost) &&
      (within === undefined || Math.abs(got.value - within.of) <= within.tolerance + ROUNDING * Math.abs(within.of)) &&
      (compared === undefined || (compared.p !== null && compared.p < compared.significance));
    return { metric, atLeast, atMost, within, betterThan: compared, got, met };
  });
}

/**
 * One-sided z test of `value - other > by` (or the reverse, where lower is better) for two independent means. Standard
 * errors come from the 95 % intervals, else from a share's n; a metric with neither counts as exact. Results on the
 * same items vary less in their difference than the test assumes; the normal approximation is poor for shares near 0 or 1
 * and few items. The stage `compare` has the exact, paired test.
 */
function compare(got: Metric | null, test: BetterThan, other: Metric | undefined): BetterThanRecord {
  const { stage, metric, by, significance, direction } = test;
  const base = { stage, metric, by, significance, direction, other: other ?? null };
  if (got === null || other === undefined) return { ...base, p: null };
  const sign = direction === 'higher' ? 1 : -1;
  const difference = sign * (got.value - other.value) - by;
  const error = Math.hypot(standardError(got), standardError(other));
  if (error === 0) return { ...base, p: difference > 0 ? 0 : 1 };
  return { ...base, p: upperTail(difference / error) };
}

function standardError({ value, low, high, n }: Metric): number {
  if (low !== undefined && high !== undefined) return (high - low) / (2 * 1.959963984540054);
  return n !== undefined && n > 0 && value >= 0 && value <= 1 ? Math.sqrt((value * (1 - value)) / n) : 0;
}

/**
 * P(Z > z) of the standard normal distribution, to 1e-7.
 *
 * @see Abramowitz & Stegun 1964, 26.2.17
 */
export function upperTail(z: number): number {
  if (z < 0) return 1 - upperTail(-z);
  const t = 1 / (1 + 0.2316419 * z);
  const polynomial = t * (0.31938153 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429))));
  return (Math.exp((-z * z) / 2) / Math.sqrt(2 * Math.PI)) * polynomial;
}
