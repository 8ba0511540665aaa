/** Refuses work that would not fit into the machine's memory, before it starts, and says what to change. */
import { totalmem } from 'node:os';
import { Fr1Error } from '../../../errors/fr1-error.ts';
import type { MemoryEstimate } from './estimate.ts';

/** Options of the caller that make each part smaller, in its own words. */
export type MemoryKnobs = Readonly<Partial<Record<keyof Omit<MemoryEstimate, 'total' | 'process'>, string>>>;

const WORDS = {
  frozenWeights: 'frozen weights',
  trainedWeights: 'trained weights with gradients and moments',
  batch: 'a batch and the activations between layers',
  activations: 'activations inside a layer',
  cache: 'key/value cache',
} as const satisfies Record<keyof Omit<MemoryEstimate, 'total' | 'process'>, string>;

/** What this process may use: the machine's memory, or the limit of its container. */
export function usableMemory(): number {
  const limit = process.constrainedMemory?.() ?? 0;
  return limit > 0 ? Math.min(limit, totalmem()) : totalmem();
}

/**
 * @param what does the work, e.g. `this training`
 * @throws MEMORY_SHORT listing the parts from large to small, with the options that make them smaller
 */
export function requireMemory(
  what: string,
  estimate: MemoryEstimate,
  knobs: MemoryKnobs,
  usable: number = usableMemory(),
): void {
  if (estimate.total <= usable) return;
  const parts = (Object.keys(WORDS) as (keyof typeof WORDS)[])
    .filter((part) => estimate[part] > 0.02 * estimate.total)
    .sort((a, b) => estimate[b] - estimate[a]);
  const list = parts.map((part) => `  ${gib(estimate[part]).padStart(9)}  ${WORDS[part]}`);
  const options = [...new Set(parts.flatMap((part) => knobs[part] ?? []))];
  throw new Fr1Error(
    'MEMORY_SHORT',
    `${what} would take about ${gib(estimate.total)}, of ${gib(usable)} that there are:\n${list.join('\n')}`,
    { hint: options.length > 0 ? options.join('; ') : 'use a smaller model' },
  );
}

function gib(bytes: number): string {
  return `${(bytes / 1024 ** 3).toFixed(1)} GiB`;
}
