/** Notices a running stage that says nothing: no progress, no log line, no metric. */
import type { Progress } from './stage-api.ts';

/** A stage whose usual pause is longer than the limit is given so many of its longest pauses. */
const PAUSES = 5;

export interface Quiet {
  readonly quietMs: number;
  /** What it said last about how far it is. */
  readonly at: Pick<Progress, 'done' | 'total' | 'unit'> | undefined;
}

export class QuietWatch implements Disposable {
  readonly #limitMs: number;
  readonly #onQuiet: (quiet: Quiet) => void;
  #lastSignAt = performance.now();
  #longestPauseMs = 0;
  #at: Quiet['at'];
  #timer: NodeJS.Timeout | undefined;

  /** `onQuiet` is called after `limitMs` of silence and, while that lasts, again each time it has doubled. */
  constructor(limitMs: number, onQuiet: (quiet: Quiet) => void) {
    this.#limitMs = limitMs;
    this.#onQuiet = onQuiet;
    this.#wait(limitMs);
  }

  /** The stage said something. */
  sign(progress?: Progress): void {
    const now = performance.now();
    this.#longestPauseMs = Math.max(this.#longestPauseMs, now - this.#lastSignAt);
    this.#lastSignAt = now;
    if (progress) this.#at = { done: progress.done, total: progress.total, unit: progress.unit };
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }

  #wait(limitMs: number): void {
    const quietMs = () => performance.now() - this.#lastSignAt;
    this.#timer = setTimeout(
      () => {
        const ms = quietMs();
        const limit = Math.max(limitMs, PAUSES * this.#longestPauseMs);
        if (ms < limitMs) this.#wait(this.#limitMs);
        else if (ms < limit) this.#wait(limit);
        else {
          this.#onQuiet({ quietMs: Math.round(ms), at: this.#at });
          this.#wait(2 * ms);
        }
      },
      Math.max(1, limitMs - quietMs()),
    );
    this.#timer.unref();
  }
}
