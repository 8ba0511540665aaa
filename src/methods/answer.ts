/**
 * Where the answer is in a response of the form `<think>...</think><answer>...</answer>`.
 *
 * The reward and the evaluation read it differently on purpose: the reward takes the first complete pair of tags, the
 * evaluation everything from the first opening to the last closing tag. Tags are case-sensitive.
 */
import { strip } from './python-text.ts';

export const ANSWER_OPEN = '<answer>';
export const ANSWER_CLOSE = '</answer>';

/** The text of the first complete pair of answer tags, stripped; null without one. */
export function firstAnswer(text: string): string | null {
  const start = text.indexOf(ANSWER_OPEN);
  if (start < 0) return null;
  const end = text.indexOf(ANSWER_CLOSE, start + ANSWER_OPEN.length);
  return end < 0 ? null : strip(text.slice(start + ANSWER_OPEN.length, end));
}

/** The text from the first opening to the last closing answer tag, stripped; null when no closing tag follows. */
export function answerSpan(text: string): string | null {
  const start = text.indexOf(ANSWER_OPEN);
  if (start < 0) return null;
  const end = text.lastIndexOf(ANSWER_CLOSE);
  return end < start + ANSWER_OPEN.length ? null : strip(text.slice(start + ANSWER_OPEN.length, end));
}

/** Whether a span returned by {@link answerSpan} is one answer, that is, has no further answer tags inside. */
export function isSingleAnswer(span: string): boolean {
  return !span.includes(ANSWER_OPEN) && !span.includes(ANSWER_CLOSE);
}
