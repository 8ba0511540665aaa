/** `fr1 diff`: what differs between two runs of a workspace. */
import { Fr1Error } from '../errors/fr1-error.ts';
import { compareRuns, type MetricDifference, type StageDifference, type ValueDifference } from '../run/compare-runs.ts';
import { findRun, listRuns } from '../run/recorder.ts';
import type { RunRecord } from '../run/run-record.ts';
import { Workspace } from '../run/workspace.ts';
import { tableLines } from '../ui/table.ts';
import { metricText, numberText, oneLine, valueText } from '../ui/words.ts';
import { type CliIo, writeLines } from './io.ts';
import type { ShowFlags } from './main.ts';
import { findWorkspace } from './show-command.ts';

export async function diffCommand(
  before: string | undefined,
  after: string | undefined,
  flags: ShowFlags,
  io: CliIo,
): Promise<number> {
  const workspace = new Workspace(findWorkspace(flags.workspace, io));
  const [left, right] = await chosenRuns(workspace, before, after);
  const comparison = compareRuns(left, right);
  if (flags.json) {
    const content = { version: 1, before: left.id, after: right.id, ...comparison };
    writeLines(io.stdout, [JSON.stringify(content, null, 2)]);
    return 0;
  }
  const metrics = comparison.stages.flatMap(({ stage, metrics }) => metrics.map((each) => metricRow(stage, each)));
  const isSame = comparison.run.length + comparison.stages.length === 0;
  writeLines(io.stdout, [
    `${left.id} (${left.status}) -> ${right.id} (${right.status})`,
    ...comparison.run.map((each) => `  ${valueLine(each)}`),
    ...comparison.stages.flatMap(stageLines),
    ...(metrics.length === 0 ? [] : ['', ...tableLines({ title: 'Metrics', columns: METRIC_COLUMNS, rows: metrics })]),
    ...(isSame ? ['no difference: the same options, inputs, outputs and metrics'] : []),
  ]);
  return 0;
}

/**
 * The two runs as named. One alone is compared with the last; the last, or none, with the run before it of the same pipeline.
 *
 * @throws RUN_UNKNOWN
 */
async function chosenRuns(
  workspace: Workspace,
  before: string = 'last',
  after: string | undefined,
): Promise<[RunRecord, RunRecord]> {
  const [left, right] = [await findRun(workspace, before), await findRun(workspace, after ?? 'last')];
  if (after !== undefined || left.id !== right.id) return [left, right];
  const earlier = (await listRuns(workspace)).find(({ id, pipeline }) => pipeline === right.pipeline && id < right.id);
  if (earlier !== undefined) return [earlier, right];
  throw new Fr1Error('RUN_UNKNOWN', `no run of "${right.pipeline}" before ${right.id} to compare it with`, {
    hint: 'run it again with something changed, or name two runs: fr1 diff BEFORE AFTER (fr1 runs lists them)',
  });
}

const METRIC_COLUMNS = ['stage', 'metric', 'before', 'after', 'change', '95 % intervals'];

function metricRow(stage: string, { metric, before, after, change, isApart }: MetricDifference): string[] {
  const sign = change !== undefined && change > 0 ? '+' : '';
  return [
    stage,
    metric,
    before ? metricText(before) : '',
    after ? metricText(after) : '',
    change === undefined ? '' : `${sign}${numberText(change)}`,
    isApart === undefined ? '' : isApart ? 'apart' : 'overlap',
  ];
}

function stageLines({ stage, where, values, outputs }: StageDifference): string[] {
  if (where !== 'both') return [`${stage}: only in the ${where === 'before' ? 'first' : 'second'} run`];
  if (values.length + outputs.length === 0) return [];
  return [
    `${stage}:`,
    ...values.map((each) => `  ${valueLine(each)}`),
    ...(outputs.length > 0 ? [`  other bytes: ${outputs.join(', ')}`] : []),
  ];
}

function valueLine({ path, before, after }: ValueDifference): string {
  const text = (value: unknown) => (value === undefined ? 'absent' : digestText(valueText(value)));
  return oneLine(`${path}: ${text(before)} -> ${text(after)}`);
}

function digestText(text: string): string {
  return /^sha256:/.test(text) ? text.slice(0, 'sha256:'.length + 12) : text;
}
