/** Goes over the rows of a data set for `fr1 check`: each row is looked at, and the first problems are told. */
import { SHOWN_PROBLEMS } from '../artifacts/row-problems.ts';
import { Fr1Error } from '../errors/fr1-error.ts';
import type { CheckContext } from './stage-api.ts';

/** Rows looked at at the same time: enough to overlap reading files with decoding images. */
const CONCURRENCY = 4;

/**
 * @param unit what a row is, in the plural, e.g. `chats`
 * @param check throws what is wrong with a row
 * @returns whether all rows are right
 */
export async function checkRows<Row>(
  context: Pick<CheckContext, 'signal' | 'progress' | 'problem'>,
  rows: readonly Row[],
  unit: string,
  check: (row: Row, index: number) => Promise<void>,
): Promise<boolean> {
  let [next, done, wrong] = [0, 0, 0];
  const worker = async () => {
    while (next < rows.length) {
      const index = next++;
      context.signal.throwIfAborted();
      try {
        await check(rows[index]!, index);
      } catch (error) {
        context.signal.throwIfAborted();
        if (++wrong <= SHOWN_PROBLEMS) context.problem(error instanceof Error ? error : new Error(String(error)));
      }
      context.progress({ done: ++done, total: rows.length, unit });
    }
  };
  await Promise.all(Array.from({ length: Math.min(CONCURRENCY, rows.length) }, worker));
  if (wrong > SHOWN_PROBLEMS) {
    const more = `${wrong - SHOWN_PROBLEMS} more of ${rows.length} ${unit} have problems`;
    context.problem(new Fr1Error('DATA_ROW_INVALID', more));
  }
  return wrong === 0;
}
