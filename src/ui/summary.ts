/** The last part of a run's output: what failed, the result tables, totals, where things are, how to go on. Pure. */

import type { ErrorCode } from '../errors/catalogue.ts';
import { formatError } from '../errors/format.ts';
import { Fr1Error } from '../errors/fr1-error.ts';
import type { ErrorRecord } from '../run/events.ts';
import type { RunRecord, StageRecord } from '../run/run-record.ts';
import { tableLines } from './table.ts';
import { durationText, expectationText, metricText, oneLine, usageText } from './words.ts';

export interface SummaryOptions {
  /** ANSI colours in errors. @default false */
  readonly colour?: boolean;
  /** Shortens a path for display. @default as it is */
  readonly showPath?: (path: string) => string;
  /** The command that shows a run again. @default `fr1 show ID` */
  readonly showCommand?: (id: string) => string;
  /** Whether the run was started with `--force`, which must not be repeated to continue. */
  readonly wasForced?: boolean;
}

/** Errors of a run that failed, for the error stream. */
export function failureLines(record: RunRecord, options: SummaryOptions = {}): string[] {
  const lines: string[] = [];
  for (const stage of record.stages) {
    if (stage.error) {
      lines.push(`stage "${stage.name}" failed:`, stageErrorText(stage.error, options), '');
    }
    for (const expectation of stage.missedExpectations) {
      lines.push(`stage "${stage.name}" does not meet its expectation: ${expectationText(expectation)}`, '');
    }
  }
  for (const { error } of record.placed ?? []) {
    if (error) lines.push(stageErrorText(error, options), '');
  }
  const blocked = record.stages.filter((stage) => stage.status === 'blocked').map((stage) => stage.name);
  if (blocked.length > 0) lines.push(`not run, because they need what failed: ${blocked.join(', ')}`, '');
  return lines;
}

/** Totals, where things are and how to go on, for the output stream. */
export function closingLines(record: RunRecord, options: SummaryOptions = {}): string[] {
  const { showPath = (path: string) => path } = options;
  const lines: string[] = [];
  const total = record.durationMs === undefined ? '' : ` in ${durationText(record.durationMs)}`;
  const count = (status: StageRecord['status']) => record.stages.filter((stage) => stage.status === status).length;
  const counts = (
    [
      ['ran', 'ran'],
      ['cached', 'cached'],
      ['failed', 'failed'],
      ['skipped', 'skipped'],
      ['blocked', 'not run'],
      ['not-started', 'not started'],
    ] as const
  )
    .map(([status, word]) => [count(status), word] as const)
    .filter(([n]) => n > 0)
    .map(([n, word]) => `${n} ${word}`)
    .join(', ');
  const isAllCached = record.stages.every(({ status }) => status === 'cached' || status === 'skipped');

  if (record.status === 'interrupted') {
    const how = options.wasForced ? 'run the same command without --force' : 'run the same command again';
    lines.push(`stopped${total}; ${how}: it continues from the last checkpoint`);
  } else if (record.status === 'failed') {
    lines.push(`failed${total}: ${counts}`);
  } else if (isAllCached) {
    lines.push(`everything cached: nothing had to run (${stagesText(record)} checked${total})`);
  } else {
    lines.push(`done${total}: ${counts}`);
  }
  lines.push(...warningLines(record));
  if (record.devices?.length) lines.push(record.devices.map(usageText).join(', '));
  const { showCommand = (id: string) => `fr1 show ${id}` } = options;
  lines.push(
    ...placesOf(record, showPath),
    ...outputLines(record, showPath),
    `to see this again: ${showCommand(record.id)}`,
  );
  return lines;
}

/** The stages' tables; a stage with metrics and no table shows its metrics. */
export function tablesOf(record: RunRecord): string[] {
  const lines: string[] = [];
  for (const stage of record.stages) {
    for (const table of stage.tables)
      lines.push(...tableLines({ ...table, title: `${stage.name}: ${table.title}` }), '');
  }
  const tableless = record.stages.filter((stage) => stage.tables.length === 0);
  const rows = tableless.flatMap((stage) =>
    Object.entries(stage.metrics).map(([name, metric]) => [stage.name, name, metricText(metric)]),
  );
  if (rows.length > 0) {
    const hasInterval = tableless.some((stage) => Object.values(stage.metrics).some((metric) => 'low' in metric));
    const notes = hasInterval ? ['[low, high]: 95 % confidence interval'] : [];
    lines.push(...tableLines({ title: 'Metrics', columns: ['stage', 'metric', 'value'], rows, notes }), '');
  }
  return lines;
}

/** What stages warned of: a live view has lost it by now. */
export function warningLines({ stages }: RunRecord): string[] {
  const shown = 6;
  const lines = stages.flatMap(({ name, warnings }) => warnings.map((text) => `  ${name}: ${oneLine(text)}`));
  if (lines.length === 0) return [];
  const more = lines.length > shown ? [`  ... and ${lines.length - shown} more: fr1 logs`] : [];
  return ['warnings:', ...lines.slice(0, shown), ...more];
}

/** Where the checkpoints are, by stage. */
function placesOf(record: RunRecord, showPath: (path: string) => string): string[] {
  const places: string[] = [];
  for (const stage of record.stages) {
    for (const [name, output] of Object.entries(stage.outputs)) {
      if (output.type === 'checkpoint') places.push(`  ${stage.name}.${name}  ${showPath(output.path)}`);
    }
  }
  return places.length > 0 ? ['checkpoints:', ...places] : [];
}

/** Places that the pipeline's `outputs` name. */
function outputLines(record: RunRecord, showPath: (path: string) => string): string[] {
  const placed = (record.placed ?? []).filter(({ error }) => error === undefined);
  return placed.length === 0 ? [] : ['outputs:', ...placed.map(({ path }) => `  ${showPath(path)}`)];
}

function stagesText({ stages }: RunRecord): string {
  return stages.length === 1 ? '1 stage' : `${stages.length} stages`;
}

function stageErrorText(error: ErrorRecord, options: SummaryOptions): string {
  const { code, message, hint, at } = error;
  // An error that was given its place repeats the words of its cause.
  const told = [message];
  for (const cause of error.causes ?? []) if (!told.some((text) => text.includes(cause))) told.push(cause);
  const [first, ...causes] = told;
  const text = [first, ...causes.map((cause) => `because: ${cause}`)].join('\n');
  const rebuilt = new Fr1Error(code as ErrorCode, text, { hint, at });
  return formatError(rebuilt, { colour: options.colour === true });
}
