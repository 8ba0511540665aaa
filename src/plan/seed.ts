/** Seeds of stages. */
import { createHash } from 'node:crypto';

/**
 * The seed of a stage: its own option `seed` where it has a number there, else derived from the run's seed and the
 * stage's name, so that adding or moving a stage leaves the others' numbers alone.
 *
 * Derived: the first 32 bits of SHA-256 of `<run seed>/<stage name>`, an integer in [0, 2^32).
 */
export function stageSeed(runSeed: number, stageName: string, options: Readonly<Record<string, unknown>>): number {
  const own = options['seed'];
  if (typeof own === 'number') return own;
  return createHash('sha256').update(`${runSeed}/${stageName}`).digest().readUInt32BE(0);
}
