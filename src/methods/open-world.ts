/**
 * Scoring of a free answer: does it name the label, and how near is its meaning.
 *
 * @see Fine-R1, arXiv:2602.07605, open-world evaluation
 */
import { answerSpan, isSingleAnswer } from './answer.ts';
import { lower, splitWords } from './python-text.ts';

/** Where the word for "what all classes are" comes from. */
export type StandardWordSource =
  | { readonly kind: 'super-category'; readonly word: string }
  /** The published rule; it depends on how the user's folders are called. */
  | { readonly kind: 'path'; readonly imagePath: string };

export interface OpenWorldSettings {
  /** What is searched when there is no answer: the whole output, its thought included, or nothing. */
  readonly fallback: 'whole-output' | 'none';
  /** What a car label is compared as when dropping its last two words leaves nothing. */
  readonly emptyCarLabel: 'matches-anything' | 'whole-label';
}

export interface OpenWorldItem {
  readonly output: string;
  readonly label: string;
  readonly standardFrom: StandardWordSource;
}

export interface OpenWorldScore {
  /** As written, stripped; `''` for an empty answer, null without answer tags. */
  readonly answer: string | null;
  /** What is compared with the label: the answer, or what the fall-back chose; null where that is nothing. */
  readonly comparedText: string | null;
  readonly standardWord: string;
  /** The compared text contains the label; the published metric when the fall-back is the whole output. */
  readonly correct: boolean;
  /** There is exactly one answer and it contains the label. */
  readonly strictlyCorrect: boolean;
}

/** Scores one open-world item by text inclusion. */
export function scoreOpenWorld(item: OpenWorldItem, settings: OpenWorldSettings): OpenWorldScore {
  const answer = answerSpan(item.output);
  const comparedText = answer || (settings.fallback === 'whole-output' ? item.output : null);
  const standardWord = standardWordOf(item.standardFrom);
  const label = comparableLabel(item.label, standardWord, settings.emptyCarLabel);
  return {
    answer,
    comparedText,
    standardWord,
    correct: comparedText !== null && lower(comparedText).includes(label),
    strictlyCorrect: !!answer && isSingleAnswer(answer) && lower(answer).includes(label),
  };
}

const WORD_OF_PATH = [
  ['aircraft', 'aircraft'],
  ['birds', 'bird'],
  ['cars', 'car'],
  ['flower', 'flower'],
] as const;

/** The super-category word of an item, e.g. `bird`. */
export function standardWordOf(source: StandardWordSource): string {
  if (source.kind === 'super-category') return source.word;
  return WORD_OF_PATH.find(([part]) => source.imagePath.includes(part))?.[1] ?? 'object';
}

/**
 * A label as it is searched for. Labels of cars lose their last two words (body style and year) and keep `_`; others get
 * a space for `_`.
 */
function comparableLabel(
  label: string,
  standardWord: string,
  emptyCarLabel: OpenWorldSettings['emptyCarLabel'],
): string {
  if (standardWord !== 'car') return lower(label).replaceAll('_', ' ');
  const words = splitWords(lower(label));
  const kept = words.slice(0, Math.max(0, words.length - 2));
  return kept.length === 0 && emptyCarLabel === 'whole-label' ? words.join(' ') : kept.join(' ');
}

/** Similarity of two texts in [-1, 1], e.g. the cosine of their embeddings. */
export type TextSimilarity = (a: string, b: string) => Promise<number>;

/**
 * How much nearer the compared text is to the label than the mere super-category is:
 * max(0, (s - s0) / (1 - s0)) with s = similarity(text, label) and s0 = similarity(super-category, label).
 *
 * 0 when the super-category already equals the label in meaning (s0 = 1), where the formula has no value.
 */
export async function relativeSimilarity(
  comparedText: string,
  label: string,
  standardWord: string,
  similarity: TextSimilarity,
): Promise<number> {
  const [own, standard] = await Promise.all([similarity(comparedText, label), similarity(standardWord, label)]);
  return standard >= 1 ? 0 : Math.max(0, (own - standard) / (1 - standard));
}
