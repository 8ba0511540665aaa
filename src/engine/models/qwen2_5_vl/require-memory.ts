/** Refuses work that would not fit into the machine's memory, before it starts, and says what to change. */
import { totalmem } from 'node:os';
import { Fr1Error } from '../../../errors/fr1-error.ts';
import type { MemoryEstimate } from './estimate.ts';

type Part = keyof Omit<MemoryEstimate, 'total'>;

/** Options of the caller that make each part smaller, in its own words. */
export type MemoryKnobs = Readonly<Partial<Record<Exclude<Part, 'process'>, string>>>;

const WORDS = {
  process: 'program and tokenizer',
  frozenWeights: 'frozen weights',
  otherWeights: 'weights of the reference policy',
  trainedWeights: 'trained weights with gradients and moments',
  images: 'decoded images',
  batch: 'a batch and the activations between layers',
  activations: 'activations inside layers',
  cache: 'key/value cache',
} as const satisfies Record<Part, string>;

/** What this process may use: the machine's memory, or the limit of its container. */
export function usableMemory(): number {
  const limit = process.constrainedMemory?.() ?? 0;
  return limit > 0 ? Math.min(limit, totalmem()) : totalmem();
}

/** The parts of an estimate in words. */
export function partsInWords(estimate: MemoryEstimate): Record<string, number> {
  return Object.fromEntries((Object.keys(WORDS) as Part[]).map((part) => [WORDS[part], estimate[part]]));
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
  const problem = memoryProblem(what, estimate, knobs, usable);
  if (problem) throw problem;
}

/** The error that `requireMemory` throws; null where there is enough. */
export function memoryProblem(
  what: string,
  estimate: MemoryEstimate,
  knobs: MemoryKnobs,
  usable: number = usableMemory(),
): Fr1Error | null {
  if (estimate.total <= usable) return null;
  const parts = (Object.keys(WORDS) as Part[])
    .filter((part) => estimate[part] > 0.02 * estimate.total)
    .sort((a, b) => estimate[b] - estimate[a]);
  const list = parts.map((part) => `  ${gibibytes(estimate[part]).padStart(9)}  ${WORDS[part]}`);
  const options = [...new Set(parts.flatMap((part) => (part === 'process' ? [] : (knobs[part] ?? []))))];
  return new Fr1Error(
    'MEMORY_SHORT',
    `${what} would take about ${gibibytes(estimate.total)}, of ${gibibytes(usable)} that there are:\n${list.join('\n')}`,
    { hint: options.length > 0 ? options.join('; ') : 'use a smaller model' },
  );
}

/** `9.1 GiB`. */
export function gibibytes(bytes: number): string {
  return `${(bytes / 1024 ** 3).toFixed(1)} GiB`;
}
