/** Reading of eval-data: multiple-choice test items of one split. */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { Fr1Error } from '../errors/fr1-error.ts';
import { isRecord, isStrings, type RowProblem, readJsonLines, readJsonObject } from './json-lines.ts';
import { isInside } from './rows.ts';
import type { DatasetInfo, EvalRow } from './types.ts';

export interface EvalData {
  readonly info: Pick<DatasetInfo, 'name' | 'superCategory'>;
  readonly rows: readonly EvalRow[];
}

/**
 * The items of an eval-data folder, each with an image file that exists.
 *
 * @throws DATA_UNREADABLE when dataset.json or rows.jsonl is missing or dataset.json lacks its names
 * @throws DATA_ROW_INVALID for the first rows that are faulty, repeat an id or miss their image file
 */
export async function readEvalData(folder: string): Promise<EvalData> {
  const { name, superCategory } = await readJsonObject(path.join(folder, 'dataset.json'));
  if (typeof name !== 'string' || typeof superCategory !== 'string') {
    throw new Fr1Error('DATA_UNREADABLE', `${path.join(folder, 'dataset.json')} lacks "name" or "superCategory"`);
  }
  const ids = new Set<string>();
  const rows = await readJsonLines<EvalRow>(path.join(folder, 'rows.jsonl'), (value) => {
    const row = evalRow(value);
    if ('problem' in row) return row;
    if (ids.has(row.id)) return { problem: 'another row has the same id' };
    ids.add(row.id);
    if (!isInside(row.image)) return { problem: `its image ${row.image} lies outside the folder` };
    return existsSync(path.join(folder, row.image)) ? row : { problem: `its image ${row.image} does not exist` };
  });
  return { info: { name, superCategory }, rows };
}

function evalRow(value: unknown): EvalRow | RowProblem {
  if (!isRecord(value)) return { problem: 'it is not an object' };
  const { id, image, label, question, options, sourcePath } = value;
  const texts = { id, image, label, question };
  for (const [name, text] of Object.entries(texts)) {
    if (typeof text !== 'string' || text === '') return { problem: `"${name}" is not a text` };
  }
  if (!isStrings(options)) return { problem: '"options" is not a list of texts' };
  if (new Set(options).size !== options.length) return { problem: 'two of its options are the same' };
  if (!options.includes(label as string)) return { problem: `its label "${label}" is not among its options` };
  return {
    ...(texts as Record<keyof typeof texts, string>),
    options,
    ...(typeof sourcePath === 'string' && { sourcePath }),
  };
}
