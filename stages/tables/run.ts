/** Reads the evaluations and writes their tables. */
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { type Predictions, readPredictions } from '../../src/artifacts/predictions.ts';
import { Fr1Error } from '../../src/errors/fr1-error.ts';
import { PAPER_DATASETS, PAPER_RESULTS, type PaperTable } from '../../src/methods/paper-results.ts';
import {
  type AveragedRow,
  asPrinted,
  averaged,
  cellsOf,
  csvTable,
  markdownTable,
  TABLE_COLUMNS,
  type TableRow,
} from '../../src/methods/paper-tables.ts';
import type { Metric, ReportTable, StageContext, StageResult } from '../../src/run/stage-api.ts';
import type { TablesOptions } from './options.ts';

const TITLES = {
  closed: 'Table 1: closed world (4 options), accuracy %',
  similarity: 'Table 2: open world, relative text similarity x 100',
  inclusion: 'Table 6: open world, text inclusion %',
} as const satisfies Record<PaperTable, string>;

const FILES = { closed: 'table-1', similarity: 'table-2', inclusion: 'table-6' } as const satisfies Record<
  PaperTable,
  string
>;

const COMPARED = /^(Qwen2\.5-VL|Fine-R1)/;

interface MadeTable {
  readonly kind: PaperTable;
  readonly paper: readonly AveragedRow[];
  readonly ours: readonly AveragedRow[];
}

export async function runTables(context: StageContext<TablesOptions>): Promise<StageResult> {
  const { runs, paperRows, metric } = context.options;
  const read: { readonly name: string; readonly predictions: Predictions }[] = [];
  for (const { name, predictions } of runs) read.push({ name, predictions: await readPredictions(predictions.path) });
  const tables: MadeTable[] = [];
  for (const kind of ['closed', 'similarity', 'inclusion'] as const) {
    const ours = read.flatMap(({ name, predictions }) => rowOf(name, predictions, kind, metric) ?? []);
    if (ours.length === 0) continue;
    const paper = PAPER_RESULTS[kind].filter(
      ({ model }) => paperRows === 'all' || (paperRows === 'compared' && COMPARED.test(model)),
    );
    tables.push({ kind, paper: paper.map(asPrinted), ours: ours.map(averaged) });
  }
  if (tables.length === 0) {
    throw new Fr1Error('DATA_INSUFFICIENT', `no test set of ${runs.map(({ name }) => name).join(', ')} fits a table`, {
      hint: `call test sets ${PAPER_DATASETS[0]}-seen, ${PAPER_DATASETS[0]}-unseen and so on under data of eval`,
    });
  }
  const made = read.map(({ name, predictions }) => ({ name, made: descriptionOf(predictions) }));
  await writeTables(context.outputs['tables']!, tables, made, metric);
  return { metrics: metricsOf(tables), tables: tables.map((table) => reportOf(table, made, metric)) };
}

/** A model's figures for one table; null where it has none. */
function rowOf(
  model: string,
  { rows }: Predictions,
  kind: PaperTable,
  metric: TablesOptions['metric'],
): TableRow | null {
  const sums = new Map<string, { sum: number; count: number }>();
  const mode = kind === 'closed' ? 'closed' : 'open';
  for (const row of rows) {
    const value =
      kind === 'similarity' ? row.similarity : Number(metric === 'strict' ? row.strictlyCorrect : row.correct);
    if (row.mode !== mode || value === undefined) continue;
    const own = sums.get(row.split) ?? { sum: 0, count: 0 };
    sums.set(row.split, { sum: own.sum + value, count: own.count + 1 });
  }
  const figure = (split: string) => {
    const own = sums.get(split);
    return own ? (100 * own.sum) / own.count : null;
  };
  const seen = PAPER_DATASETS.map((name) => figure(`${name}-seen`));
  const unseen = PAPER_DATASETS.map((name) => figure(`${name}-unseen`));
  return [...seen, ...unseen].every((value) => value === null) ? null : { model, seen, unseen };
}

/** Under which prompts and rules a model's answers came about. */
function descriptionOf({ info: { rules } }: Predictions): string {
  if (rules.method === 'contrastive') return `contrastive, labels described as "${rules.prompts.closed}"`;
  const prompts = Object.entries(rules.prompts).map(([mode, prompt]) => `${mode} ${prompt}`);
  const decoding =
    rules.temperature === null
      ? 'decoding unknown'
      : `temperature ${rules.temperature}, repetition penalty ${rules.repetitionPenalty}`;
  const { set, optionOrder, standardFrom, openFallback, emptyCarLabel, similarity } = rules;
  const switches = `options ${optionOrder}, super-category from ${standardFrom}, fall-back ${openFallback}, short car labels ${emptyCarLabel}`;
  return `set ${set ?? 'unknown'}: ${prompts.join(', ')}; ${switches}; ${decoding}${similarity ? `; ${similarity}` : ''}`;
}

const PAPER_NOTE =
  'Rows of the paper: options as shipped, the right one first; models that it compares with were asked with other prompts than the released ones.';

type Made = readonly { readonly name: string; readonly made: string }[];

function notesOf(table: MadeTable, made: Made, metric: TablesOptions['metric']): string[] {
  const shown = new Set(table.ours.map(({ model }) => model));
  return [
    ...(table.paper.length > 0 ? [PAPER_NOTE] : []),
    ...(metric === 'strict' && table.kind !== 'similarity'
      ? ['Own rows: strict metric, which the paper does not have.']
      : []),
    ...made.filter(({ name }) => shown.has(name)).map(({ name, made: how }) => `${name}: ${how}`),
  ];
}

const linesOf = ({ paper, ours }: MadeTable) => [
  ...paper.map((row) => cellsOf({ ...row, model: `paper: ${row.model}` })),
  ...ours.map(cellsOf),
];

function reportOf(table: MadeTable, made: Made, metric: TablesOptions['metric']): ReportTable {
  return {
    title: TITLES[table.kind],
    columns: TABLE_COLUMNS,
    rows: linesOf(table),
    notes: notesOf(table, made, metric),
  };
}

async function writeTables(
  folder: string,
  tables: readonly MadeTable[],
  made: Made,
  metric: TablesOptions['metric'],
): Promise<void> {
  for (const table of tables) {
    const notes = notesOf(table, made, metric).map((note) => `- ${note}`);
    const text = [`# ${TITLES[table.kind]}`, '', markdownTable(TABLE_COLUMNS, linesOf(table)), '', ...notes, ''];
    await writeFile(path.join(folder, `${FILES[table.kind]}.md`), text.join('\n'));
    await writeFile(path.join(folder, `${FILES[table.kind]}.csv`), csvTable(TABLE_COLUMNS, linesOf(table)));
  }
  const all = tables.map(({ kind, paper, ours }) => ({ table: TITLES[kind], metric, paper, ours }));
  await writeFile(
    path.join(folder, 'tables.json'),
    `${JSON.stringify({ version: 1, rows: made, tables: all }, null, 2)}\n`,
  );
}

/** `<row>_<table>` for every average that exists, as a share. */
function metricsOf(tables: readonly MadeTable[]): Record<string, Metric> {
  const metrics: Record<string, Metric> = {};
  for (const { kind, ours } of tables) {
    for (const { model, average, seenAverage, unseenAverage } of ours) {
      if (seenAverage !== null) metrics[`${model}_${kind}_seen`] = { value: seenAverage / 100 };
      if (unseenAverage !== null) metrics[`${model}_${kind}_unseen`] = { value: unseenAverage / 100 };
      if (average !== null) metrics[`${model}_${kind}`] = { value: average / 100 };
    }
  }
  return metrics;
}
