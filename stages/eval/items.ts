/** The questions of an evaluation, in the order in which they are asked. */
import path from 'node:path';
import { readEvalData } from '../../src/artifacts/eval-data.ts';
import { isRecord, isStrings, type RowProblem, readJsonLines } from '../../src/artifacts/json-lines.ts';
import type { EvalRow, EvaluationInfo } from '../../src/artifacts/types.ts';
import { chooseTestRows } from '../../src/datasets/choose-test-rows.ts';
import { Fr1Error } from '../../src/errors/fr1-error.ts';
import { orderOptions, promptOf, renderPrompt } from '../../src/methods/prompts.ts';
import type { EvalOptions } from './options.ts';
import type { AskedRules } from './origin.ts';

export type Mode = EvalOptions['modes'][number];

/** One question that the model is asked. */
export interface TestItem {
  readonly split: string;
  readonly mode: Mode;
  readonly superCategory: string;
  readonly row: EvalRow;
  /** Absolute path. */
  readonly imageFile: string;
  /** In the order in which the prompt shows them. */
  readonly options: readonly string[];
  readonly prompt: string;
}

/** The rows of one test set. */
export interface TestSet {
  readonly name: string;
  readonly digest: string;
  readonly superCategory: string;
  readonly folder: string;
  readonly rows: readonly EvalRow[];
  /** Those that it is asked in; all modes where it is not given. */
  readonly modes?: readonly Mode[];
}

export interface PlannedItems {
  readonly items: readonly TestItem[];
  readonly splits: EvaluationInfo['splits'];
}

/** @throws DATA_UNREADABLE, DATA_ROW_INVALID for faulty test data */
export async function readTestSets(options: Pick<EvalOptions, 'data'>): Promise<TestSet[]> {
  const sets: TestSet[] = [];
  for (const [name, artifact] of Object.entries(options.data ?? {})) {
    const { info, rows } = await readEvalData(artifact.path);
    const { superCategory } = info;
    sets.push({ name, digest: artifact.digest, superCategory, folder: artifact.path, rows });
  }
  return sets;
}

/** Every row of every test set in every mode of the set; those that an evaluation is limited to where it is. */
export function planItems(
  sets: readonly TestSet[],
  options: Pick<EvalOptions, 'modes' | 'prompts' | 'limit'>,
  { optionOrder, optionSeed }: Pick<AskedRules, 'optionOrder' | 'optionSeed'>,
): PlannedItems {
  const order = optionOrder === 'shuffled' ? 'shuffled' : 'as-shipped';
  const items: TestItem[] = [];
  const splits: EvaluationInfo['splits'][number][] = [];
  for (const { name: split, digest, superCategory, folder, rows, modes = options.modes } of sets) {
    const chosen = chooseTestRows(rows, split, { limit: options.limit, optionSeed });
    if (chosen.length === 0) throw new Fr1Error('DATA_UNREADABLE', `the test set "${split}" has no rows`);
    splits.push({ name: split, data: digest, superCategory, items: chosen.length });
    for (const mode of modes) {
      for (const row of chosen) {
        const shown = mode === 'closed' ? orderOptions(row.options, order, optionSeed, row.id) : [];
        items.push({
          split,
          mode,
          superCategory,
          row,
          imageFile: path.join(folder, row.image),
          options: shown,
          prompt: renderPrompt(promptOf(options.prompts, mode), { question: row.question, options: shown }),
        });
      }
    }
  }
  return { items, splits };
}

/** `aircraft_seen` -> `aircraft-seen`: a test set's name in fr1 for a list of Fine-R1. */
export const splitOfList = (list: string) => list.replaceAll('_', '-');

/**
 * A list of Fine-R1's evaluation as a test set whose images are not looked at.
 *
 * @throws DATA_UNREADABLE, DATA_ROW_INVALID with file and line
 */
export async function readFineR1List(folder: string, list: string, digest: string): Promise<TestSet> {
  const file = path.join(folder, `${list}.jsonl`);
  const rows = await readJsonLines<EvalRow>(file, (value, line) => listRow(value, `${list}-${line}`));
  return { name: splitOfList(list), digest, superCategory: list.split('_')[0]!, folder, rows };
}

function listRow(value: unknown, id: string): EvalRow | RowProblem {
  if (!isRecord(value)) return { problem: 'it is not an object' };
  const { image_path: image, question, options, ground_truth: label } = value;
  for (const [name, text] of Object.entries({ image_path: image, question, ground_truth: label })) {
    if (typeof text !== 'string' || text === '') return { problem: `"${name}" is not a text` };
  }
  if (!isStrings(options)) return { problem: '"options" is not a list of texts' };
  return {
    id,
    image: image as string,
    sourcePath: image as string,
    label: label as string,
    question: question as string,
    options,
  };
}
