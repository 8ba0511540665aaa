/** A reward of the user: a JavaScript module whose default export scores one answer, tried on a right and a wrong one first. */
import { pathToFileURL } from 'node:url';
import type { TripletRow } from '../../src/artifacts/types.ts';
import { withoutImageMark } from '../../src/datasets/questions.ts';
import type { Score } from '../../src/engine/recipes/tapo.ts';
import { Fr1Error } from '../../src/errors/fr1-error.ts';

export interface RewardInput {
  /** What the model wrote, without special tokens. */
  readonly response: string;
  readonly label: string;
  readonly question: string;
}

/** Of a response in an error. */
const SHOWN_CHARACTERS = 80;

/** A number counts as reward and, where above 0.5, as right; parts beside `overall` and `accuracy` are logged. */
export type RewardFunction = (input: RewardInput) => unknown;

/** The default export of a module. @throws DATA_UNREADABLE for a file that is no such module */
export async function loadRewardFunction(file: string): Promise<RewardFunction> {
  let score: unknown;
  try {
    score = ((await import(pathToFileURL(file).href)) as { default?: unknown }).default;
  } catch (cause) {
    throw new Fr1Error('DATA_UNREADABLE', `${file} cannot be loaded: ${(cause as Error).message}`, { cause });
  }
  if (typeof score === 'function') return score as RewardFunction;
  throw new Fr1Error('DATA_UNREADABLE', `${file} has no function as its default export`, {
    hint: 'export default ({ response, label, question }) => ({ overall: 1, accuracy: 1 })',
  });
}

/**
 * Loads the module and tries it on a row: the label in the usual form must earn more than another answer, and what has no form at all,
 * as a model writes too, must get some reward.
 *
 * @throws DATA_UNREADABLE for a file that is no such module
 * @throws DATA_ROW_INVALID where it gives no finite reward, or none that tells right from wrong
 */
export async function openRewardFunction(
  file: string,
  row: TripletRow,
): Promise<(input: RewardInput) => Promise<Score>> {
  const score = await loadRewardFunction(file);
  const scored = async ({ question, ...input }: RewardInput) =>
    scoreOf(await called(score, { ...input, question: withoutImageMark(question) }, file), file);
  const answer = (text: string) => `<think>It shows.</think><answer>${text}</answer>`;
  const { label, question } = row;
  const right = await scored({ response: answer(label), label, question });
  const wrong = await scored({ response: answer(row.negativeLabel ?? 'no such thing'), label, question });
  for (const response of ['', 'It shows a bird.', '</answer><think>']) await scored({ response, label, question });
  if (right.overall <= wrong.overall) {
    throw new Fr1Error(
      'DATA_ROW_INVALID',
      `${file} gives the right answer "${label}" ${right.overall}, and a wrong one ${wrong.overall}`,
      { hint: 'a right answer must earn more; both are <think>...</think><answer>...</answer>' },
    );
  }
  return scored;
}

async function called(score: RewardFunction, input: RewardInput, file: string): Promise<unknown> {
  try {
    return await score(input);
  } catch (cause) {
    const what = cause instanceof Error ? `${cause.name}: ${cause.message}` : String(cause);
    const about = JSON.stringify(input.response.slice(0, SHOWN_CHARACTERS));
    throw new Fr1Error('DATA_ROW_INVALID', `${file} fails on the response ${about}: ${what}`, {
      hint: 'it must give a number for whatever a model may write, also for text without any tag',
      cause,
    });
  }
}

function scoreOf(value: unknown, file: string): Score {
  const given = typeof value === 'number' ? { overall: value } : value;
  const numbers = Object.entries(given !== null && typeof given === 'object' ? given : {}) as [string, unknown][];
  const known = new Map(numbers);
  const overall = known.get('overall');
  if (typeof overall !== 'number' || numbers.some(([, part]) => typeof part !== 'number' || !Number.isFinite(part))) {
    throw new Fr1Error('DATA_ROW_INVALID', `${file} gave ${JSON.stringify(value)} instead of numbers with "overall"`);
  }
  const { overall: _overall, accuracy, format, ...parts } = Object.fromEntries(known) as Record<string, number>;
  if (accuracy !== undefined && (accuracy < 0 || accuracy > 1)) {
    throw new Fr1Error('DATA_ROW_INVALID', `${file} gave the accuracy ${accuracy}, which is not between 0 and 1`, {
      hint: 'groups are chosen by the mean of their accuracies: 1 is a right answer, 0 a wrong one',
    });
  }
  return { overall, accuracy: accuracy ?? Number(overall > 0.5), format: format ?? 0, parts };
}
