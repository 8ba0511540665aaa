/** Answers that were given elsewhere: predictions of another `eval`, or result files of Fine-R1's evaluation. */
import { existsSync, readdirSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { isRecord, isStrings } from '../../src/artifacts/json-lines.ts';
import { readPredictions } from '../../src/artifacts/predictions.ts';
import { Fr1Error } from '../../src/errors/fr1-error.ts';
import type { Artifact } from '../../src/run/stage-api.ts';
import type { FinishedOutput } from './finished-output.ts';
import { type Mode, readFineR1List, splitOfList, type TestItem, type TestSet } from './items.ts';

const RESULT_FILE = /^(?<model>.*)_(?<list>[^_]+_(?:seen|unseen))_(?<mode>closed|open)\.json$/;

interface ResultFile {
  readonly file: string;
  readonly list: string;
  readonly mode: Mode;
}

/** The result files of a folder. @throws DATA_UNREADABLE where two are about the same list and mode */
function resultFiles(folder: string): ResultFile[] {
  const found = readdirSync(folder)
    .sort()
    .flatMap((name): ResultFile[] => {
      const { list, mode } = RESULT_FILE.exec(name)?.groups ?? {};
      return list && mode ? [{ file: path.join(folder, name), list, mode: mode as Mode }] : [];
    });
  const seen = new Map<string, string>();
  for (const { file, list, mode } of found) {
    const key = `${list} ${mode}`;
    const other = seen.get(key);
    if (other !== undefined) {
      throw new Fr1Error('DATA_UNREADABLE', `both ${other} and ${file} answer ${list}, ${mode}`, {
        hint: 'give a folder with the results of one model',
      });
    }
    seen.set(key, file);
  }
  return found;
}

/** The lists that a folder of result files answers, as test sets. @throws DATA_UNREADABLE, DATA_ROW_INVALID */
export async function listsOfResults(outputs: Artifact, lists: Artifact): Promise<TestSet[]> {
  const names = [...new Set(resultFiles(outputs.path).map(({ list }) => list))].sort();
  if (names.length === 0) throw noResults(outputs.path);
  const sets: TestSet[] = [];
  for (const name of names) sets.push(await readFineR1List(lists.path, name, lists.digest));
  return sets;
}

/** The modes that a folder of result files answers. */
export function modesOfResults(outputs: Artifact): ReadonlySet<Mode> {
  return new Set(resultFiles(outputs.path).map(({ mode }) => mode));
}

function noResults(folder: string): Fr1Error {
  return new Fr1Error('DATA_UNREADABLE', `${folder} holds no result file of Fine-R1's evaluation`, {
    hint: 'they are called <model>_<category>_<seen or unseen>_<closed or open>.json',
  });
}

/**
 * One output for each item.
 *
 * @throws DATA_UNREADABLE for a file that is missing or damaged
 * @throws PREDICTIONS_DIFFER where outputs and items do not belong together
 */
export async function importOutputs(outputs: Artifact, items: readonly TestItem[]): Promise<FinishedOutput[]> {
  if (outputs.type === 'predictions' || existsSync(path.join(outputs.path, 'rows.jsonl'))) {
    return fromPredictions(outputs.path, items);
  }
  const files = resultFiles(outputs.path);
  if (files.length === 0) throw noResults(outputs.path);
  const read = new Map<string, { readonly file: string; readonly results: readonly Result[]; next: number }>();
  const found: FinishedOutput[] = [];
  for (const item of items) {
    const key = `${item.split} ${item.mode}`;
    let source = read.get(key);
    if (source === undefined) {
      const file = files.find(({ list, mode }) => splitOfList(list) === item.split && mode === item.mode);
      if (file === undefined) {
        const known = files.map(({ list, mode }) => `${splitOfList(list)} ${mode}`).join(', ');
        throw new Fr1Error('DATA_UNREADABLE', `no result file answers ${key}; there are ${known}`, {
          hint: 'name test sets as the files do, e.g. bird-seen, or choose `modes`',
        });
      }
      source = { file: file.file, results: await readResults(file.file), next: 0 };
      read.set(key, source);
    }
    found.push(outputOf(item, source.file, source.results, source.next++));
  }
  for (const { file, results, next } of read.values()) {
    if (results.length === next) continue;
    throw new Fr1Error('PREDICTIONS_DIFFER', `${file} has ${results.length} results for ${next} test items`);
  }
  return found;
}

interface Result {
  readonly label: string;
  readonly output: string;
}

function outputOf(item: TestItem, file: string, results: readonly Result[], index: number): FinishedOutput {
  const result = results[index];
  if (result === undefined) {
    throw new Fr1Error('PREDICTIONS_DIFFER', `${file} has only ${results.length} results`);
  }
  if (result.label !== item.row.label) {
    throw new Fr1Error(
      'PREDICTIONS_DIFFER',
      `${file}: result ${index} is about "${result.label}", the test item "${item.row.id}" about "${item.row.label}"`,
      { hint: 'results must be in the order of the list that they answer' },
    );
  }
  return { output: result.output, finishReason: 'stop' };
}

async function readResults(file: string): Promise<Result[]> {
  let value: unknown;
  try {
    value = JSON.parse(await readFile(file, 'utf8'));
  } catch (cause) {
    throw new Fr1Error('DATA_UNREADABLE', `cannot read ${file}: ${(cause as Error).message}`, { cause });
  }
  const results = isRecord(value) ? value['results'] : undefined;
  if (!Array.isArray(results)) throw new Fr1Error('DATA_UNREADABLE', `${file} has no list "results"`);
  return results.map((result: unknown, index) => {
    const { ground_truth: label, model_output: output } = isRecord(result) ? result : {};
    if (typeof label !== 'string' || typeof output !== 'string') {
      throw new Fr1Error('DATA_ROW_INVALID', `${file}: result ${index} lacks "ground_truth" or "model_output"`);
    }
    return { label, output };
  });
}

async function fromPredictions(folder: string, items: readonly TestItem[]): Promise<FinishedOutput[]> {
  const { rows } = await readPredictions(folder);
  const known = new Map(rows.map((row) => [`${row.split}/${row.mode}/${row.id}`, row]));
  return items.map(({ split, mode, row, options }) => {
    const found = known.get(`${split}/${mode}/${row.id}`);
    if (found === undefined) {
      throw new Fr1Error('PREDICTIONS_DIFFER', `${folder} has no answer to ${split} ${mode} "${row.id}"`);
    }
    if (
      mode === 'closed' &&
      isStrings(found.options) &&
      [...found.options].sort().join() !== [...options].sort().join()
    ) {
      throw new Fr1Error('PREDICTIONS_DIFFER', `${folder}: "${row.id}" was asked with other options`);
    }
    return { output: found.output, finishReason: found.finishReason ?? 'stop' };
  });
}
