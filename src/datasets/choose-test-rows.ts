/** Which items of a test set are asked. */
import type { EvalRow } from '../artifacts/types.ts';
import { RandomStream } from '../engine/random.ts';

export interface TestRowChoice {
  /** Most items; undefined: all. */
  readonly limit?: number | undefined;
  readonly optionSeed: number;
}

/**
 * All rows, or a random choice of `limit` in file order: test files are often sorted by class. The same for every model that
 * is asked with this limit and seed.
 */
export function chooseTestRows(
  rows: readonly EvalRow[],
  split: string,
  { limit, optionSeed }: TestRowChoice,
): readonly EvalRow[] {
  if (limit === undefined || limit >= rows.length) return rows;
  const indices = new RandomStream(optionSeed, 'limit', split).shuffled(rows.map((_, index) => index));
  return indices
    .slice(0, limit)
    .sort((a, b) => a - b)
    .map((index) => rows[index]!);
}
