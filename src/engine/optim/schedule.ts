/** Learning-rate schedules with linear warm-up. */

export interface Schedule {
  readonly kind: 'constant' | 'cosine';
  /** Updates over which the rate rises linearly from 0. @default 0 */
  readonly warmupSteps?: number;
}

/**
 * Factor on the learning rate for an update.
 *
 * The first update of a warm-up of W steps has factor 0 as in transformers; without warm-up the first update has the
 * full rate (the reference's step with rate 0 is quirk Q7).
 *
 * @param step updates done before this one, from 0
 * @param total updates of the whole training
 */
export function scheduleFactor(schedule: Schedule, step: number, total: number): number {
  const warmup = schedule.warmupSteps ?? 0;
  if (step < warmup) return step / warmup;
  if (schedule.kind === 'constant') return 1;
  const progress = (step - warmup) / Math.max(1, total - warmup);
  return 0.5 * (1 + Math.cos(Math.PI * Math.min(1, progress)));
}
