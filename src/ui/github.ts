/**
 * What a run tells GitHub Actions: annotations (workflow commands, one line each) and the job summary (Markdown). Pure.
 * Texts of users are escaped, so that a log line can neither give a command nor break a table.
 */
import { Fr1Error, Fr1Errors, type SourcePosition } from '../errors/fr1-error.ts';
import type { RunRecord, StageRecord } from '../run/run-record.ts';
import type { ReportTable } from '../run/stage-api.ts';
import { durationText, expectationText, metricText, oneLine } from './words.ts';

/** A path as the repository knows it; `undefined` when it lies outside. */
export type RepositoryPath = (path: string) => string | undefined;

/** One annotation per error, at the place that it tells. */
export function errorAnnotations(error: unknown, toRepository: RepositoryPath): string[] {
  if (error instanceof Fr1Errors) return error.errors.flatMap((each) => errorAnnotations(each, toRepository));
  const message = error instanceof Error ? error.message : String(error);
  if (!(error instanceof Fr1Error)) return [annotation('error', 'fr1', message)];
  const text = error.hint === undefined ? message : `${message}\nhint: ${error.hint}`;
  return [annotation('error', error.code, text, error.at, toRepository)];
}

/** Annotations of a run: failed stages, missed expectations and warnings. */
export function runAnnotations(record: RunRecord, toRepository: RepositoryPath): string[] {
  return record.stages.flatMap((stage) => [
    ...(stage.error
      ? [annotation('error', `stage "${stage.name}" failed`, stage.error.message, stage.error.at, toRepository)]
      : []),
    ...stage.missedExpectations.map((missed) =>
      annotation('error', `stage "${stage.name}" does not meet its expectation`, expectationText(missed)),
    ),
    ...stage.warnings.map((warning) => annotation('warning', `stage "${stage.name}"`, warning)),
  ]);
}

/**
 * The job summary: how the run ended, its stages, what was missed, metrics and tables.
 *
 * @param drift lines on how the run differs from its lock; none when it does not, or has none
 */
export function jobSummary(record: RunRecord, drift: readonly string[] = []): string {
  const took = record.durationMs === undefined ? '' : ` in ${durationText(record.durationMs)}`;
  const missed = record.stages.flatMap(({ name, missedExpectations }) =>
    missedExpectations.map((each) => `- ${cell(name)}: ${cell(expectationText(each))}`),
  );
  const metrics = record.stages.flatMap(({ name, metrics }) =>
    Object.entries(metrics).map(([metric, value]) => [name, metric, metricText(value)]),
  );
  const parts = [
    `## fr1: ${cell(record.pipeline)}: ${record.status}${took}`,
    `Run \`${record.id}\` of \`${cell(record.file)}\`, seed ${record.seed}, device ${record.device}.`,
    ...(missed.length > 0 ? [['### Expectations that were not met', '', ...missed].join('\n')] : []),
    ...(drift.length > 0 ? [['```text', ...drift.map(oneLine), '```'].join('\n')] : []),
    markdownTable(['stage', 'kind', 'status', 'time'], record.stages.map(stageRow)),
    ...(metrics.length > 0 ? [details('Metrics', markdownTable(['stage', 'metric', 'value [95 %]'], metrics))] : []),
    ...record.stages.flatMap(({ tables }) => tables.map(tableSection)),
  ];
  return `${parts.join('\n\n')}\n`;
}

function stageRow({ name, kind, status, durationMs, error }: StageRecord): string[] {
  const ending = error ? `${status}: ${error.message.split('\n')[0]}` : status;
  return [name, kind, ending, durationMs === undefined ? '' : durationText(durationMs)];
}

function tableSection({ title, columns, rows, notes = [] }: ReportTable): string {
  return details(title, [markdownTable(columns, rows), ...notes.map(cell)].join('\n\n'));
}

function details(title: string, content: string): string {
  return `<details open><summary>${cell(title)}</summary>\n\n${content}\n\n</details>`;
}

function markdownTable(columns: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.map(cell).join(' | ')} |`;
  return [line(columns), `|${' --- |'.repeat(columns.length)}`, ...rows.map(line)].join('\n');
}

/** Text in Markdown: no markup of its own. */
function cell(text: string): string {
  return oneLine(text)
    .replace(/[\\|`*_[\]<>#]/g, (mark) => `&#${mark.charCodeAt(0)};`)
    .trim();
}

function annotation(
  level: 'error' | 'warning',
  title: string,
  message: string,
  at?: SourcePosition,
  toRepository: RepositoryPath = () => undefined,
): string {
  const file = at && toRepository(at.file);
  const place: Readonly<Record<string, string | number>> = file === undefined || !at ? {} : placeOf(file, at);
  const properties = Object.entries({ ...place, title }).map(([key, value]) => `${key}=${property(String(value))}`);
  return `::${level} ${properties.join(',')}::${data(message)}`;
}

function placeOf(file: string, { line, col, endCol }: SourcePosition): Record<string, string | number> {
  return { file, line, col, ...(endCol !== undefined && { endColumn: endCol }) };
}

function data(text: string): string {
  return text.replaceAll('%', '%25').replaceAll('\r', '%0D').replaceAll('\n', '%0A');
}

function property(text: string): string {
  return data(text).replaceAll(':', '%3A').replaceAll(',', '%2C');
}
