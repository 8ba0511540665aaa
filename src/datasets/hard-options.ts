/**
 * Wrong options of a closed-world question: the classes nearest to the right one, so that general knowledge of the
 * picture does not suffice. Fine-R1 ships its options without a rule; three of the nearest few give as many different
 * lists a class as its files have (11 to 34).
 */
import { RandomStream } from '../engine/random.ts';
import type { ClassSimilarity } from './class-similarity.ts';

/** Wrong options of a question that offers some. */
export const WRONG_OPTIONS = 3;

export interface OptionSettings {
  /** Nearest classes that wrong options are drawn from. */
  readonly pool: number;
  /** Whether the right option may stand at any place or comes first. */
  readonly order: 'shuffled' | 'label-first';
  readonly seed: number;
}

/** Draws the options of one item; a function of seed, label and item alone. */
export type OptionMaker = (label: string, itemId: string) => string[];

/** @param similarity null for any other class */
export function hardOptions(
  labels: readonly string[],
  similarity: ClassSimilarity | null,
  { pool, order, seed }: OptionSettings,
): OptionMaker {
  const poolOf = new Map<string, string[]>();
  const nearest = (label: string): string[] => {
    const known = poolOf.get(label);
    if (known !== undefined) return known;
    const others = labels.filter((other) => other !== label);
    const made = similarity === null ? others : ranked(label, others, similarity, seed).slice(0, pool);
    poolOf.set(label, made);
    return made;
  };
  return (label, itemId) => {
    const stream = new RandomStream('dataset', 'options', seed, itemId);
    const wrong = stream.shuffled(nearest(label)).slice(0, WRONG_OPTIONS);
    return order === 'shuffled' ? stream.shuffled([label, ...wrong]) : [label, ...wrong];
  };
}

/** The others from near to far; equals in an order that the seed fixes. */
export function ranked(label: string, others: readonly string[], similarity: ClassSimilarity, seed: number): string[] {
  return new RandomStream('dataset', 'ties', seed, label)
    .shuffled(others)
    .map((other) => ({ other, value: similarity(label, other) }))
    .sort((a, b) => b.value - a.value)
    .map(({ other }) => other);
}
