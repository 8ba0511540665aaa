/** Side-by-side accuracies of several models and paired tests of each against the one before it. */
import type { Predictions, SplitPrediction } from '../../src/artifacts/predictions.ts';
import { Fr1Error } from '../../src/errors/fr1-error.ts';
import {
  accuracy,
  bySplit,
  outcomes,
  pairedAccuracies,
  percent,
  percentText,
  type Strictness,
} from '../../src/methods/accuracies.ts';
import type { Estimate, Outcomes, PairedComparison } from '../../src/methods/statistics.ts';
import type { Metric, ReportTable } from '../../src/run/stage-api.ts';

export interface NamedPredictions {
  readonly name: string;
  readonly predictions: Predictions;
}

export interface Comparison {
  readonly metrics: Readonly<Record<string, Metric>>;
  readonly tables: readonly ReportTable[];
}

type Mode = SplitPrediction['mode'];

/** What is compared: one test set in one mode, or the mean of all test sets. */
interface Column {
  readonly mode: Mode;
  /** `seen`, `unseen`, ..., `mean` */
  readonly title: string;
  /** Name that its metrics end in: `seen_closed`, ..., `closed`. */
  readonly metric: string;
  readonly splits: readonly string[];
}

/**
 * Compares models on the same items. Metrics: `<run>_<column>` for each run, `<run>_vs_<previous>_<column>` with its
 * `..._p` for each pair of neighbours, where a column is `closed`, `seen_closed` and so on. Shares are in [0, 1].
 *
 * @throws PREDICTIONS_DIFFER when the runs differ in test items, prompts or scoring rules
 */
export async function compare(runs: readonly NamedPredictions[], strictness: Strictness): Promise<Comparison> {
  const [first, ...others] = runs;
  if (first === undefined) throw new RangeError('nothing to compare');
  for (const other of others) checkComparable(first, other);
  const columns = columnsOf(first.predictions.rows);
  const results = runs.map(({ name, predictions }) => ({ name, outcomesOf: outcomeTable(predictions, strictness) }));

  const metrics: Record<string, Metric> = {};
  const accuracies = new Map<string, Estimate>();
  for (const { name, outcomesOf } of results) {
    for (const column of columns) {
      const estimate = await accuracy(outcomesOf(column));
      accuracies.set(`${name}_${column.metric}`, estimate);
      metrics[`${name}_${column.metric}`] = estimate;
    }
  }
  const differences: string[][] = [];
  for (const [index, run] of results.slice(1).entries()) {
    const previous = results[index]!;
    for (const column of columns) {
      const paired = await pairedAccuracies(previous.outcomesOf(column), run.outcomesOf(column));
      const name = `${run.name}_vs_${previous.name}_${column.metric}`;
      metrics[name] = paired.difference;
      metrics[`${name}_p`] = { value: paired.pValue };
      differences.push([`${run.name} vs ${previous.name}`, `${column.title} ${column.mode}`, ...cellsOf(paired)]);
    }
  }

  const modes = [...new Set(columns.map(({ mode }) => mode))];
  const tables = modes.map((mode) => accuracyTable(mode, columns, results, accuracies, strictness));
  return { metrics, tables: differences.length === 0 ? tables : [...tables, differenceTable(differences)] };
}

/** Every test set in every mode, and the mean of the test sets where there are several. */
function columnsOf(rows: readonly SplitPrediction[]): Column[] {
  return [...bySplit(rows)].flatMap(([mode, bySplitName]) => {
    const splits = [...bySplitName.keys()];
    const single = splits.map((split) => ({ mode, title: split, metric: `${split}_${mode}`, splits: [split] }));
    return splits.length === 1 ? single : [...single, { mode, title: 'mean', metric: mode, splits }];
  });
}

/** The outcomes of a run by column, one list per test set of the column. */
function outcomeTable({ rows }: Predictions, strictness: Strictness): (column: Column) => Outcomes[] {
  const items = bySplit(rows);
  return ({ mode, splits }) => splits.map((split) => outcomes(items.get(mode)!.get(split)!, strictness));
}

function accuracyTable(
  mode: Mode,
  columns: readonly Column[],
  runs: readonly { readonly name: string }[],
  accuracies: ReadonlyMap<string, Estimate>,
  strictness: Strictness,
): ReportTable {
  const own = columns.filter((column) => column.mode === mode);
  const world = mode === 'closed' ? 'Closed-world' : 'Open-world';
  return {
    title: `${world} accuracy${strictness === 'strict' ? ', strict' : ''}, % [95 % interval]`,
    columns: ['model', ...own.map(({ title }) => title)],
    rows: runs.map(({ name }) => [name, ...own.map(({ metric }) => percentText(accuracies.get(`${name}_${metric}`)!))]),
  };
}

function differenceTable(rows: readonly (readonly string[])[]): ReportTable {
  return {
    title: 'Differences on the same items',
    columns: ['models', 'test', 'points', '95 % interval', 'p', 'lost', 'won'],
    rows,
    notes: [
      'p: exact McNemar test, two-sided. lost, won: items that only the earlier or only the later model gets right.',
    ],
  };
}

function cellsOf({ difference, pValue, onlyA, onlyB }: PairedComparison): string[] {
  const { value, low, high } = difference;
  return [
    signed(percent(value)),
    `[${signed(percent(low))}, ${signed(percent(high))}]`,
    probabilityText(pValue),
    `${onlyA}`,
    `${onlyB}`,
  ];
}

function signed(figure: string): string {
  return figure.startsWith('-') || figure === '0.0' ? figure : `+${figure}`;
}

function probabilityText(p: number): string {
  return p < 0.0001 ? '< 0.0001' : p.toFixed(4);
}

/**
 * Two runs compare when they answered the same items in the same order under the same rules. A contrastive model and one that
 * writes have no rules in common: they compare when they had the same items, with the same options in any order.
 */
function checkComparable(a: NamedPredictions, b: NamedPredictions): void {
  const [ours, theirs] = [a.predictions, b.predictions];
  const isSameMethod = ours.info.rules.method === theirs.info.rules.method;
  const rules = isSameMethod ? (Object.keys(ours.info.rules) as (keyof typeof ours.info.rules)[]) : [];
  for (const rule of rules) {
    const [left, right] = [ours.info.rules[rule], theirs.info.rules[rule]].map((value) => JSON.stringify(value));
    if (left !== right) differ(a, b, `"${rule}" is ${left} for one and ${right} for the other`);
  }
  if (ours.rows.length !== theirs.rows.length) {
    differ(a, b, `one has ${ours.rows.length} rows and the other ${theirs.rows.length}`);
  }
  for (const [index, row] of ours.rows.entries()) {
    const [left, right] = [row, theirs.rows[index]!].map(({ split, mode, id, label, options = [] }) => {
      const shown = isSameMethod ? options : [...options].sort();
      return `${split} ${mode} ${id} (${[label, ...shown].join(', ')})`;
    });
    if (left !== right) differ(a, b, `row ${index + 1} is ${left} for one and ${right} for the other`);
  }
}

function differ(a: NamedPredictions, b: NamedPredictions, how: string): never {
  throw new Fr1Error('PREDICTIONS_DIFFER', `"${a.name}" and "${b.name}" cannot be compared: ${how}`, {
    hint: 'evaluate both models with the same data and options',
  });
}
