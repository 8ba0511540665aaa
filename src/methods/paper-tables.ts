/** Results in the layout of the paper's tables: six data sets, seen and unseen classes, their averages. */
import { PAPER_DATASETS, type PaperRow } from './paper-results.ts';

/** Figures of a model in per cent; null where a data set was not evaluated. */
export interface TableRow {
  readonly model: string;
  readonly seen: readonly (number | null)[];
  readonly unseen: readonly (number | null)[];
}

export interface AveragedRow extends TableRow {
  /** Unweighted mean of six data sets; null unless all are there. */
  readonly seenAverage: number | null;
  readonly unseenAverage: number | null;
  /** Mean of the two averages after they were rounded, as in the paper. */
  readonly average: number | null;
}

/** Adds the averages, rounded half up to two decimals. */
export function averaged(row: TableRow): AveragedRow {
  const seenAverage = averageOf(row.seen);
  const unseenAverage = averageOf(row.unseen);
  return { ...row, seenAverage, unseenAverage, average: averageOf([seenAverage, unseenAverage]) };
}

/** A row of the paper with its averages as printed. */
export function asPrinted(row: PaperRow): AveragedRow {
  const { model, seen, unseen, average } = row;
  const made = averaged({ model, seen, unseen });
  return average === undefined ? made : { ...made, average };
}

function averageOf(values: readonly (number | null)[]): number | null {
  if (!values.every((value) => value !== null)) return null;
  // In hundredths, so that a tie such as 77.105 is one in binary too.
  const hundredths = values.reduce((sum, value) => sum + Math.round(value * 100), 0) / values.length;
  return Math.floor(hundredths + 0.5) / 100;
}

const SHORT = { aircraft: 'Air.', bird: 'Bird', car: 'Car', dog: 'Dog', flower: 'Flower', pet: 'Pet' } as const;

export const TABLE_COLUMNS: readonly string[] = [
  'Model',
  ...PAPER_DATASETS.map((name) => `S ${SHORT[name]}`),
  'S Avg.',
  ...PAPER_DATASETS.map((name) => `U ${SHORT[name]}`),
  'U Avg.',
  'Avg.',
];

/** The cells of a row under `TABLE_COLUMNS`; `` where there is no figure. */
export function cellsOf({ model, seen, seenAverage, unseen, unseenAverage, average }: AveragedRow): string[] {
  const text = (value: number | null) => (value === null ? '' : value.toFixed(2));
  return [model, ...seen.map(text), text(seenAverage), ...unseen.map(text), text(unseenAverage), text(average)];
}

export function markdownTable(columns: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  const rule = columns.map((_, i) => (i === 0 ? '---' : '---:'));
  return [line(columns), line(rule), ...rows.map(line)].join('\n');
}

/** Comma-separated values after RFC 4180. */
export function csvTable(columns: readonly string[], rows: readonly (readonly string[])[]): string {
  const cell = (text: string) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  return [columns, ...rows].map((row) => `${row.map(cell).join(',')}\r\n`).join('');
}
