/** One attempt within its time, and the waits between attempts. */
import { setTimeout as sleep } from 'node:timers/promises';
import { exitCodeOf } from '../errors/format.ts';
import { Fr1Error } from '../errors/fr1-error.ts';
import type { Retry } from '../plan/types.ts';
import { durationOf } from './duration.ts';

export interface AttemptLimits {
  readonly stage: string;
  readonly timeoutMs: number | undefined;
  /** How long the work may take to come to rest when its time is up. */
  readonly settleMs: number;
  /** Aborts the work from outside. */
  readonly signal: AbortSignal;
}

/**
 * Runs `work` with a signal that also fires when the time is up. Work that ignores its signal is left to itself a while
 * later.
 *
 * @throws STAGE_TIMEOUT when the time is up, unless the work ends well all the same
 */
export async function withinTime<Result>(
  { stage, timeoutMs, settleMs, signal }: AttemptLimits,
  work: (signal: AbortSignal) => Promise<Result>,
): Promise<Result> {
  if (timeoutMs === undefined) return work(signal);
  const timeout = new AbortController();
  const error = new Fr1Error('STAGE_TIMEOUT', `stage "${stage}" did not end within ${durationOf(timeoutMs)}`, {
    hint: 'raise its `timeout`; what it has saved is kept, and the next attempt goes on from there',
  });
  const over = new AbortController();
  const timer = setTimeout(() => timeout.abort(error), timeoutMs);
  try {
    const ended = work(AbortSignal.any([signal, timeout.signal])).catch((cause: unknown) => {
      throw timeout.signal.aborted && !signal.aborted ? error : cause;
    });
    const abandoned = sleep(timeoutMs + settleMs, undefined, { signal: over.signal }).then(() => {
      throw error;
    });
    // The one that comes later is nobody's concern.
    abandoned.catch(() => undefined);
    ended.catch(() => undefined);
    return await Promise.race([ended, abandoned]);
  } finally {
    clearTimeout(timer);
    over.abort();
  }
}

/** Wait before the attempt after the `failed`th failure, in ms; undefined where there is no further attempt. */
export function delayAfter(retry: Retry | undefined, failed: number, error: unknown): number | undefined {
  // Wrong input stays wrong.
  if (retry === undefined || failed > retry.times || exitCodeOf(error) === 2) return undefined;
  return Math.min(retry.maxDelayMs, retry.delayMs * retry.factor ** (failed - 1));
}
