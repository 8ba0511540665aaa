/** Reading and writing of predictions. */
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { Fr1Error } from '../errors/fr1-error.ts';
import { isRecord, type RowProblem, readJsonLines, readJsonObject, writeJsonLines } from './json-lines.ts';
import type { EvaluationInfo, PredictionRow } from './types.ts';

/** A row of an evaluation over several test sets and modes. */
export type SplitPrediction = PredictionRow & Required<Pick<PredictionRow, 'split' | 'mode'>>;

export interface Predictions {
  readonly info: EvaluationInfo;
  readonly rows: readonly SplitPrediction[];
}

/** Fills a predictions folder. */
export async function writePredictions(folder: string, { info, rows }: Predictions): Promise<void> {
  await writeJsonLines(path.join(folder, 'rows.jsonl'), rows);
  await writeFile(path.join(folder, 'evaluation.json'), `${JSON.stringify(info, null, 2)}\n`);
}

/**
 * The content of a predictions folder.
 *
 * @throws DATA_UNREADABLE when a file is missing or evaluation.json is not one
 * @throws DATA_ROW_INVALID for the first faulty row
 */
export async function readPredictions(folder: string): Promise<Predictions> {
  const info = await readEvaluationInfo(folder);
  const rows = await readJsonLines(path.join(folder, 'rows.jsonl'), predictionRow);
  return { info, rows };
}

/** evaluation.json alone. @throws DATA_UNREADABLE when it is missing or is none */
export async function readEvaluationInfo(folder: string): Promise<EvaluationInfo> {
  const file = path.join(folder, 'evaluation.json');
  const info = await readJsonObject(file);
  if (info['version'] !== 1 || !isRecord(info['rules']) || !Array.isArray(info['splits'])) {
    throw new Fr1Error('DATA_UNREADABLE', `${file} does not describe an evaluation that this version knows`);
  }
  return info as unknown as EvaluationInfo;
}

function predictionRow(value: unknown): SplitPrediction | RowProblem {
  if (!isRecord(value)) return { problem: 'it is not an object' };
  for (const name of ['id', 'label', 'output', 'split']) {
    if (typeof value[name] !== 'string') return { problem: `"${name}" is not a text` };
  }
  if (value['mode'] !== 'closed' && value['mode'] !== 'open') return { problem: '"mode" is neither closed nor open' };
  for (const name of ['correct', 'strictlyCorrect']) {
    if (typeof value[name] !== 'boolean') return { problem: `"${name}" is neither true nor false` };
  }
  return value as unknown as SplitPrediction;
}
