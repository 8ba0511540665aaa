/** The text files that datasets come with: one entry a line, fields divided by blanks. */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { readText } from '../artifacts/read-text.ts';
import { Fr1Error, type SourcePosition } from '../errors/fr1-error.ts';

export interface ListLine {
  readonly text: string;
  readonly at: SourcePosition;
}

/**
 * The lines that are neither blank nor comments (`#`).
 *
 * @throws DATA_UNREADABLE when the file cannot be read or is not UTF-8
 */
export async function readLines(file: string): Promise<ListLine[]> {
  return (await readText(file)).split('\n').flatMap((line, index): ListLine[] => {
    const trimmed = line.trim();
    if (trimmed === '' || trimmed.startsWith('#')) return [];
    return [{ text: trimmed, at: { file, line: index + 1, col: 1, lineText: line.replace(/\r$/, '') } }];
  });
}

/**
 * Lines `key value` as a map; the value is all that follows the first blank.
 *
 * @throws DATA_UNREADABLE when the file cannot be read
 * @throws DATA_ROW_INVALID for a line without a value or a key that was there before
 */
export async function readPairs(
  file: string,
): Promise<Map<string, { readonly value: string; readonly at: SourcePosition }>> {
  const pairs = new Map<string, { value: string; at: SourcePosition }>();
  for (const { text, at } of await readLines(file)) {
    const [, key, value] = /^(\S+)\s+(.+)$/.exec(text) ?? [];
    if (key === undefined || value === undefined) throw rowError(at, 'it is not of the form "key value"');
    if (pairs.has(key)) throw rowError(at, `"${key}" stands on an earlier line too`);
    pairs.set(key, { value, at });
  }
  return pairs;
}

export function rowError(at: SourcePosition, problem: string, hint?: string): Fr1Error {
  return new Fr1Error('DATA_ROW_INVALID', `the row cannot be used: ${problem}`, { at, hint });
}

/**
 * The folder that holds `marker`: `root` itself, or one of the folders that archives unpack to.
 *
 * @throws DATA_UNREADABLE saying what was looked for
 */
export function findBase(root: string, marker: string, inside: readonly string[], what: string): string {
  const places = [root, ...inside.map((name) => path.join(root, name))];
  const base = places.find((place) => existsSync(path.join(place, marker)));
  if (base !== undefined) return base;
  throw new Fr1Error('DATA_UNREADABLE', `${root} does not hold ${what}: there is no ${marker}`, {
    hint: `give the folder that its archive was unpacked to; docs/datasets.md shows its layout`,
  });
}
