/** Remaining time of a stage from its progress events. */
import type { Progress } from '../run/stage-api.ts';

/** Older observations do not count, so that the estimate follows a change of speed. */
const WINDOW_MS = 60_000;

/**
 * Estimates the remaining milliseconds from how fast `done` grew within the last minute. The first event only sets the
 * start, so that steps done by an earlier, interrupted run do not count as fast ones.
 */
export class EtaEstimator {
  readonly #seen: { readonly at: number; readonly done: number }[] = [];
  #unit: string | undefined;

  /** `at` in milliseconds on any clock. Returns undefined while there is too little to tell. */
  observe({ done, total, unit }: Progress, at: number): number | undefined {
    const last = this.#seen.at(-1);
    // Another unit, or a count that starts again, is another phase of the stage.
    if (unit !== this.#unit || (last && done < last.done)) this.#seen.length = 0;
    this.#unit = unit;
    this.#seen.push({ at, done });
    while (this.#seen.length > 2 && at - this.#seen[0]!.at > WINDOW_MS) this.#seen.shift();
    const first = this.#seen[0]!;
    if (at - first.at < 1_000 || done <= first.done || total < done) return undefined;
    return ((total - done) * (at - first.at)) / (done - first.done);
  }
}
