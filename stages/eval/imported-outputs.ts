/** Answers that were given elsewhere: predictions of another `eval`, or result files of Fine-R1's evaluation. */
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { isRecord, isStrings } from '../../src/artifacts/json-lines.ts';
import { readPredictions } from '../../src/artifacts/predictions.ts';
import { readText } from '../../src/artifacts/read-text.ts';
import { Fr1Error } from '../../src/errors/fr1-error.ts';
import { lower } from '../../src/methods/python-text.ts';
import type { Artifact } from '../../src/run/stage-api.ts';
import type { FinishedOutput } from './finished-output.ts';
import { type Mode, readFineR1List, splitOfList, type TestItem, type TestSet } from './items.ts';
import { isPredictions } from './origin.ts';

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

/**
 * The lists that a folder of result files answers in one of the modes, as test sets that are asked in these.
 *
 * @throws DATA_UNREADABLE, DATA_ROW_INVALID
 */
export async function listsOfResults(
  outputs: Artifact,
  lists: Artifact,
  modes: readonly Mode[],
  warn: (message: string) => void,
): Promise<TestSet[]> {
  const files = resultFiles(outputs.path).filter(({ mode }) => modes.includes(mode));
  if (files.length === 0) throw noResults(outputs.path, modes);
  const answered = modes.filter((mode) => files.some((file) => file.mode === mode));
  const sets: TestSet[] = [];
  for (const list of [...new Set(files.map((file) => file.list))].sort()) {
    const own = answered.filter((mode) => files.some((file) => file.list === list && file.mode === mode));
    for (const mode of answered) {
      if (!own.includes(mode)) warn(`${outputs.path} has no ${mode} answers to ${list}`);
    }
    sets.push({ ...(await readFineR1List(lists.path, list, lists.digest)), modes: own });
  }
  return sets;
}

function noResults(folder: string, modes: readonly Mode[]): Fr1Error {
  return new Fr1Error(
    'DATA_UNREADABLE',
    `${folder} holds no result file (${modes.join(', ')}) of Fine-R1's evaluation`,
    {
      hint: 'they are called <model>_<category>_<seen or unseen>_<closed or open>.json',
    },
  );
}

/**
 * One output for each item. Result files answer every row of a set, of which the items may be a part.
 *
 * @throws DATA_UNREADABLE for a file that is missing or damaged
 * @throws PREDICTIONS_DIFFER where outputs and items do not belong together
 */
export async function importOutputs(
  outputs: Artifact,
  items: readonly TestItem[],
  sets: readonly TestSet[],
): Promise<FinishedOutput[]> {
  if (isPredictions(outputs)) return fromPredictions(outputs.path, items);
  const files = resultFiles(outputs.path);
  if (files.length === 0) throw noResults(outputs.path, [...new Set(items.map(({ mode }) => mode))]);
  const placeOf = new Map(sets.flatMap(({ rows }) => rows.map((row, place) => [row, place])));
  const sizeOf = new Map(sets.map(({ name, rows }) => [name, rows.length]));
  const read = new Map<string, ResultsOfFile>();
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
      source = { file: file.file, results: await readResults(file.file) };
      const [has, wanted] = [source.results.length, sizeOf.get(item.split)!];
      if (has !== wanted) {
        throw new Fr1Error('PREDICTIONS_DIFFER', `${file.file} has ${has} results for ${wanted} test items`);
      }
      read.set(key, source);
    }
    found.push(outputOf(item, source, placeOf.get(item.row)!));
  }
  return found;
}

interface ResultsOfFile {
  readonly file: string;
  readonly results: readonly Result[];
}

interface Result {
  readonly label: string;
  readonly output: string;
}

function outputOf(item: TestItem, { file, results }: ResultsOfFile, index: number): FinishedOutput {
  const result = results[index]!;
  if (comparable(result.label) !== comparable(item.row.label)) {
    throw new Fr1Error(
      'PREDICTIONS_DIFFER',
      `${file}: result ${index} is about "${result.label}", the test item "${item.row.id}" about "${item.row.label}"`,
      { hint: 'results must be in the order of the list that they answer' },
    );
  }
  return { output: result.output, finishReason: 'stop' };
}

/** A label as the released evaluation compares it, in which form a result may hold it. */
function comparable(label: string): string {
  return lower(label).replaceAll('_', ' ');
}

/** Numbers that are none, as Python's json writes them; texts are matched as a whole and stay. */
const PYTHON_NUMBERS = /"(?:[^"\\]|\\.)*"|-?\bInfinity\b|\bNaN\b/g;

/** JSON as Python writes and reads it, where a mean of nothing may stand as NaN. */
function parsePythonJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return JSON.parse(text.replace(PYTHON_NUMBERS, (found) => (found.startsWith('"') ? found : 'null')));
  }
}

async function readResults(file: string): Promise<Result[]> {
  const text = await readText(file);
  let value: unknown;
  try {
    value = parsePythonJson(text);
  } catch (cause) {
    throw new Fr1Error('DATA_UNREADABLE', `${file} is not JSON: ${(cause as Error).message}`, { cause });
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
      throw new Fr1Error('PREDICTIONS_DIFFER', `${folder} has no answer to ${split} ${mode} "${row.id}"`, {
        hint: 'give the data, modes and limit that the answers were made with',
      });
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
