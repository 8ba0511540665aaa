/**
 * Scoring of a multiple-choice answer.
 *
 * @see Fine-R1, arXiv:2602.07605, closed-world evaluation
 */
import { answerSpan } from './answer.ts';
import { lower } from './python-text.ts';

export interface ClosedWorldItem {
  /** What the model wrote, without special tokens. */
  readonly output: string;
  readonly label: string;
  /** The labels that were offered, the right one among them. */
  readonly options: readonly string[];
}

export interface ClosedWorldScore {
  /** Lower case, `_` as a space; `''` for an empty answer, null without answer tags. */
  readonly answer: string | null;
  /** The answer contains the label; the published metric. */
  readonly correct: boolean;
  /** The answer equals the label and no other option. */
  readonly strictlyCorrect: boolean;
  /** The answer equals one of the options. */
  readonly isOption: boolean;
}

/**
 * Scores one closed-world item.
 *
 * NOTE: containment also accepts an answer that lists every option, and a longer label of which the right one is a part
 * (`mexican petunia` for `petunia`); the strict score accepts neither.
 */
export function scoreClosedWorld(item: ClosedWorldItem): ClosedWorldScore {
  const span = answerSpan(item.output);
  if (span === null || span === '') return { answer: span, correct: false, strictlyCorrect: false, isOption: false };
  const answer = normalise(span);
  const label = normalise(item.label);
  const matches = item.options.filter((option) => normalise(option) === answer);
  return {
    answer,
    correct: answer.includes(label),
    strictlyCorrect: answer === label && matches.length === 1,
    isOption: matches.length > 0,
  };
}

function normalise(text: string): string {
  return lower(text).replaceAll('_', ' ');
}
