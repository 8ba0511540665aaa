/** A reward of the user: a JavaScript module whose default export scores one answer, tried on a right and a wrong one first. */
import { pathToFileURL } from 'node:url';
import type { TripletRow } from '../../src/artifacts/types.ts';
import type { Score } from '../../src/engine/recipes/tapo.ts';
import { Fr1Error } from '../../src/errors/fr1-error.ts';

export interface RewardInput {
  /** What the model wrote, without special tokens. */
  readonly response: string;
  readonly label: string;
  readonly question: string;
}

/** A number counts as reward and, where above 0.5, as right; parts beside `overall` and `accuracy` are logged. */
export type RewardFunction = (input: RewardInput) => unknown;

/**
 * Loads the module and tries it on a row: the label in the usual form must earn more than another answer.
 *
 * @throws DATA_UNREADABLE for a file that is no such module
 * @throws DATA_ROW_INVALID where it gives no finite reward, or none that tells right from wrong
 */
export async function openRewardFunction(
  file: string,
  row: TripletRow,
): Promise<(input: RewardInput) => Promise<Score>> {
  let score: unknown;
  try {
    score = ((await import(pathToFileURL(file).href)) as { default?: unknown }).default;
  } catch (cause) {
    throw new Fr1Error('DATA_UNREADABLE', `${file} cannot be loaded: ${(cause as Error).message}`, { cause });
  }
  if (typeof score !== 'function') {
    throw new Fr1Error('DATA_UNREADABLE', `${file} has no function as its default export`, {
      hint: 'export default ({ response, label, question }) => ({ overall: 1, accuracy: 1 })',
    });
  }
  const scored = async (input: RewardInput) => scoreOf(await (score as RewardFunction)(input), file);
  const answer = (text: string) => `<think>It shows.</think><answer>${text}</answer>`;
  const { label, question } = row;
  const right = await scored({ response: answer(label), label, question });
  const wrong = await scored({ response: answer(row.negativeLabel ?? 'no such thing'), label, question });
  if (right.overall <= wrong.overall) {
    throw new Fr1Error(
      'DATA_ROW_INVALID',
      `${file} gives the right answer "${label}" ${right.overall}, and a wrong one ${wrong.overall}`,
      { hint: 'a right answer must earn more; both are <think>...</think><answer>...</answer>' },
    );
  }
  return scored;
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
  return { overall, accuracy: accuracy ?? Number(overall > 0.5), format: format ?? 0, parts };
}
