/**
 * Accuracies of a set of scored test items, by test set and mode, under the names that metrics have.
 */
import {
  bootstrapMean,
  comparePaired,
  type Estimate,
  type Outcomes,
  type PairedComparison,
  shareEstimate,
} from './statistics.ts';

export interface ScoredItem {
  /** Name of the test set, e.g. `seen`. */
  readonly split: string;
  readonly mode: 'closed' | 'open';
  readonly correct: boolean;
  readonly strictlyCorrect: boolean;
  readonly isOption?: boolean;
  readonly similarity?: number;
}

/** A published metric and its strict counterpart. */
export type Strictness = 'containment' | 'strict';

/**
 * The seed of every interval: an accuracy has the same interval wherever it is reported, and a comparison changes with
 * the predictions alone.
 */
const BOOTSTRAP = { seed: 0, resamples: 2000 } as const;

/** The items by mode and test set, both in order of first appearance. */
export function bySplit<Item extends ScoredItem>(items: readonly Item[]): Map<Item['mode'], Map<string, Item[]>> {
  const modes = new Map<Item['mode'], Map<string, Item[]>>();
  for (const item of items) {
    let splits = modes.get(item.mode);
    if (splits === undefined) modes.set(item.mode, (splits = new Map()));
    const members = splits.get(item.split);
    if (members === undefined) splits.set(item.split, [item]);
    else members.push(item);
  }
  return modes;
}

export function outcomes(items: readonly ScoredItem[], strictness: Strictness): Outcomes {
  return items.map((item) => (strictness === 'strict' ? item.strictlyCorrect : item.correct));
}

/** Right or wrong per stratum, with 95 % interval. */
export async function accuracy(strata: readonly Outcomes[]): Promise<Estimate> {
  return shareEstimate(strata, BOOTSTRAP);
}

/** Paired comparison of two models on the same items, per stratum. */
export async function pairedAccuracies(a: readonly Outcomes[], b: readonly Outcomes[]): Promise<PairedComparison> {
  return comparePaired(a, b, BOOTSTRAP);
}

/**
 * `<split>_<mode>` for every test set and `<mode>` for the unweighted mean of its test sets, each also with `_strict`;
 * `..._outside`, the share of answers that are none of the options; and `<split>_similarity` with `similarity`, where answers
 * have one. All are in [0, 1].
 */
export async function accuracyMetrics(items: readonly ScoredItem[]): Promise<Record<string, Estimate>> {
  const metrics: Record<string, Estimate> = {};
  for (const [mode, splits] of bySplit(items)) {
    for (const strictness of ['containment', 'strict'] as const) {
      const suffix = strictness === 'strict' ? '_strict' : '';
      const strata = [...splits.values()].map((members) => outcomes(members, strictness));
      for (const [index, split] of [...splits.keys()].entries()) {
        metrics[`${split}_${mode}${suffix}`] = await accuracy([strata[index]!]);
      }
      metrics[`${mode}${suffix}`] = await accuracy(strata);
    }
    Object.assign(metrics, await outsideMetrics(mode, splits), await similarityMetrics(splits));
  }
  return metrics;
}

/** Shares of closed-world answers that are none of the options, under names that end in `_outside`. */
async function outsideMetrics(
  mode: ScoredItem['mode'],
  splits: ReadonlyMap<string, readonly ScoredItem[]>,
): Promise<Record<string, Estimate>> {
  const groups = [...splits.values()];
  if (!groups.every((items) => items.every(({ isOption }) => isOption !== undefined))) return {};
  const strata = groups.map((items) => items.map(({ isOption }) => !isOption));
  const metrics: Record<string, Estimate> = { [`${mode}_outside`]: await accuracy(strata) };
  for (const [index, split] of [...splits.keys()].entries()) {
    metrics[`${split}_${mode}_outside`] = await accuracy([strata[index]!]);
  }
  return metrics;
}

/** Means of the similarities. */
async function similarityMetrics(
  splits: ReadonlyMap<string, readonly ScoredItem[]>,
): Promise<Record<string, Estimate>> {
  const groups = [...splits.values()];
  if (!groups.every((items) => items.every(({ similarity }) => similarity !== undefined))) return {};
  const strata = groups.map((items) => items.map(({ similarity }) => similarity!));
  const metrics: Record<string, Estimate> = { similarity: await bootstrapMean(strata, BOOTSTRAP) };
  for (const [index, split] of [...splits.keys()].entries()) {
    metrics[`${split}_similarity`] = await bootstrapMean([strata[index]!], BOOTSTRAP);
  }
  return metrics;
}

/** `72.4 [70.2, 74.5]`: per cent with its interval. */
export function percentText({ value, low, high }: Estimate): string {
  return `${percent(value)} [${percent(low)}, ${percent(high)}]`;
}

/** A share in [-1, 1] as per cent with one decimal, without a minus sign before zero. */
export function percent(share: number): string {
  const text = (100 * share).toFixed(1);
  return text === '-0.0' ? '0.0' : text;
}
