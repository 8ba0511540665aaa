/**
 * The rule-based reward of a response in reinforcement learning: a right answer in the right form.
 *
 * @see Fine-R1, arXiv:2602.07605; the rule is the one its `cls_thinking` reward function follows
 */
import { ANSWER_CLOSE, ANSWER_OPEN, firstAnswer } from './answer.ts';
import { lower, strip, stripEnd, stripStart } from './python-text.ts';

/**
 * When an answer counts as right. containment: the first answer contains the label, and repeated tags pass, as in the
 * reference. exact: each tag stands once and the answer is the label.
 */
export type RewardRule = 'exact' | 'containment';

export interface Reward {
  /** (1 - w) accuracy + w format */
  readonly overall: number;
  /** 1 when the whole response has the required form, else 0. */
  readonly format: 0 | 1;
  /** 1 when the first answer is right by the rule, else 0. Groups are filtered by this part alone. */
  readonly accuracy: 0 | 1;
}

/**
 * Scores one response against its label.
 *
 * response      decoded without special tokens
 * label         compared without regard to case; `_`, `-` and spaces are told apart
 * formatWeight  w in [0, 1]
 *
 * NOTE: under containment, an answer that lists many labels scores, and small models learn to list them: several names
 * between repeated tags. `rewardHacks` finds such answers.
 */
export function scoreResponse(
  response: string,
  label: string,
  formatWeight = 0.1,
  rule: RewardRule = 'containment',
): Reward {
  const text = tightenBrackets(response);
  const isRefused = rule === 'exact' && repeatsTags(text);
  const format = !isRefused && hasRequiredForm(text) ? 1 : 0;
  const answer = isRefused ? null : firstAnswer(text);
  const accuracy = answer !== null && isRight(answer, label, rule) ? 1 : 0;
  return { overall: (1 - formatWeight) * accuracy + formatWeight * format, format, accuracy };
}

/** Removes white space around every `<`, `>` and `/`, anywhere in the text. */
export function tightenBrackets(text: string): string {
  const parts = text.split(/([<>/])/);
  const last = parts.length - 1;
  if (last === 0) return text;
  return parts
    .map((part, index) => {
      if (index % 2 === 1) return part;
      if (index === 0) return stripEnd(part);
      return index === last ? stripStart(part) : strip(part);
    })
    .join('');
}

const FORM_START = '<think>';
const FORM_TURN = '</think><answer>';
const FORM_END = '</answer>';

/**
 * Whether a tightened text reads `<think>`, anything, `</think><answer>`, anything, `</answer>` from end to end. Repeated
 * or nested tags pass; any other leading or trailing character fails.
 */
function hasRequiredForm(text: string): boolean {
  if (!text.startsWith(FORM_START) || !text.endsWith(FORM_END)) return false;
  const turn = text.indexOf(FORM_TURN, FORM_START.length);
  return turn >= 0 && turn + FORM_TURN.length <= text.length - FORM_END.length;
}

function isRight(answer: string, label: string, rule: RewardRule): boolean {
  return rule === 'exact'
    ? lower(answer) === lower(strip(tightenBrackets(label)))
    : lower(answer).includes(lower(label));
}

function repeatsTags(text: string): boolean {
  return ['<think>', '</think>', ANSWER_OPEN, ANSWER_CLOSE].some((tag) => text.split(tag).length > 2);
}

export interface RewardHacks {
  /** Characters of the first answer; 0 without one. */
  readonly answerLength: number;
  /** How many of the known labels the first answer contains. */
  readonly labelsInAnswer: number;
}

/** Signs of an answer that is written to be matched rather than to be right; for logging beside the reward. */
export function rewardHacks(response: string, labels: readonly string[]): RewardHacks {
  const answer = firstAnswer(tightenBrackets(response)) ?? '';
  const text = lower(answer);
  return {
    answerLength: answer.length,
    labelsInAnswer: labels.filter((label) => label !== '' && text.includes(lower(label))).length,
  };
}
