/** Files with one JSON value per line. */
import { open } from 'node:fs/promises';
import { Fr1Error } from '../errors/fr1-error.ts';
import { readText } from './read-text.ts';
import { RowProblems } from './row-problems.ts';

/** Turns a parsed line into a row, or says in a few words what is wrong with it. */
export type RowParser<Row> = (value: unknown, line: number) => Row | RowProblem;

export interface RowProblem {
  readonly problem: string;
}

/**
 * Every row of the file; blank lines are skipped.
 *
 * @throws DATA_UNREADABLE when the file cannot be read
 * @throws DATA_ROW_INVALID with the first lines that are not JSON or that `parse` finds fault with
 */
export async function readJsonLines<Row extends object>(file: string, parse: RowParser<Row>): Promise<Row[]> {
  const rows: Row[] = [];
  const problems = new RowProblems();
  for (const [index, text] of (await readText(file)).split('\n').entries()) {
    if (text.trim() === '') continue;
    const at = { file, line: index + 1, col: 1 };
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch (cause) {
      problems.add(new Fr1Error('DATA_ROW_INVALID', `the row is not JSON: ${(cause as Error).message}`, { at, cause }));
      continue;
    }
    const row = parse(value, at.line);
    if ('problem' in row) {
      problems.add(new Fr1Error('DATA_ROW_INVALID', `${rowName(value)}: ${row.problem}`, { at }));
    } else rows.push(row);
  }
  problems.throwIfAny();
  return rows;
}

/** Rows that are turned into text at once: the text of a large file is never in memory as a whole. */
const ROWS_AT_ONCE = 1000;

/** Writes one line per row. */
export async function writeJsonLines(file: string, rows: readonly object[]): Promise<void> {
  const handle = await open(file, 'w');
  try {
    for (let at = 0; at < rows.length; at += ROWS_AT_ONCE) {
      const part = rows.slice(at, at + ROWS_AT_ONCE);
      await handle.write(part.map((row) => `${JSON.stringify(row)}\n`).join(''));
    }
  } finally {
    await handle.close();
  }
}

/**
 * A file that holds one JSON object.
 *
 * @throws DATA_UNREADABLE when the file cannot be read or is not JSON
 */
export async function readJsonObject(file: string): Promise<Readonly<Record<string, unknown>>> {
  const text = await readText(file);
  try {
    const value: unknown = JSON.parse(text);
    if (isRecord(value)) return value;
  } catch (cause) {
    throw new Fr1Error('DATA_UNREADABLE', `${file} is not JSON: ${(cause as Error).message}`, { cause });
  }
  throw new Fr1Error('DATA_UNREADABLE', `${file} does not hold a JSON object`);
}

export function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return value !== null && typeof value === 'object' && !Array.isArray(value);
}

export function isStrings(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'string');
}

function rowName(value: unknown): string {
  return isRecord(value) && typeof value['id'] === 'string' ? `row "${value['id']}"` : 'the row';
}
