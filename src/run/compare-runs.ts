/** What differs between two runs: by stage, the options, what presets make of them, inputs, switches, outputs and metrics. Pure. */
import type { RunRecord, StageRecord } from './run-record.ts';
import type { Metric } from './stage-api.ts';

export interface ValueDifference {
  /** Dotted, e.g. `options.learningRate`, `inputs.data`, `seed`. */
  readonly path: string;
  readonly before: unknown;
  readonly after: unknown;
}

export interface MetricDifference {
  readonly metric: string;
  readonly before: Metric | undefined;
  readonly after: Metric | undefined;
  /** `after - before`, where both are there. */
  readonly change: number | undefined;
  /** Whether the 95 % intervals have no value in common; `undefined` where one is missing. */
  readonly isApart: boolean | undefined;
}

export interface StageDifference {
  readonly stage: string;
  readonly where: 'both' | 'before' | 'after';
  readonly values: readonly ValueDifference[];
  /** Outputs with other bytes, by name. */
  readonly outputs: readonly string[];
  readonly metrics: readonly MetricDifference[];
}

export interface RunComparison {
  /** Seed, device and versions. */
  readonly run: readonly ValueDifference[];
  /** Only stages that differ. */
  readonly stages: readonly StageDifference[];
}

export function compareRuns(before: RunRecord, after: RunRecord): RunComparison {
  const settings = ({ pipeline, seed, device, environment }: RunRecord) => ({ pipeline, seed, device, ...environment });
  const names = new Set([...before.stages, ...after.stages].map(({ name }) => name));
  const stageOf = (record: RunRecord, name: string) => record.stages.find((stage) => stage.name === name);
  const stages = [...names]
    .map((name) => compareStages(name, stageOf(before, name), stageOf(after, name)))
    .filter((each) => each.where !== 'both' || each.values.length + each.outputs.length + each.metrics.length > 0);
  return { run: differences(settings(before), settings(after)), stages };
}

function compareStages(
  stage: string,
  before: StageRecord | undefined,
  after: StageRecord | undefined,
): StageDifference {
  if (before === undefined || after === undefined) {
    return { stage, where: before ? 'before' : 'after', values: [], outputs: [], metrics: [] };
  }
  const described = ({ kind, version, code, seed, options, switches, inputs }: StageRecord) => ({
    ...{ kind, version, code, seed, options, switches },
    inputs: Object.fromEntries(Object.entries(inputs ?? {}).map(([key, digest]) => [key.slice(1), digest])),
  });
  const values = differences(described(before), described(after));
  const outputs = Object.keys({ ...before.outputs, ...after.outputs });
  return {
    stage,
    where: 'both',
    values: [...values, ...presetDifferences(before.settings, after.settings, values)],
    outputs: outputs.filter((name) => before.outputs[name]?.digest !== after.outputs[name]?.digest),
    metrics: compareMetrics(before.metrics, after.metrics),
  };
}

/** What differs because of the presets: of an option that differs itself, the setting says nothing more. */
function presetDifferences(
  before: StageRecord['settings'],
  after: StageRecord['settings'],
  told: readonly ValueDifference[],
): ValueDifference[] {
  if (before === undefined || after === undefined) return [];
  const isTold = (path: string) => told.some((option) => path === option.path || path.startsWith(`${option.path}.`));
  return differences(before, after, 'settings').filter(({ path }) => !isTold(path.replace(/^settings/, 'options')));
}

function compareMetrics(
  before: Readonly<Record<string, Metric>>,
  after: Readonly<Record<string, Metric>>,
): MetricDifference[] {
  return Object.keys({ ...before, ...after }).flatMap((metric) => {
    const [left, right] = [before[metric], after[metric]];
    if (left !== undefined && right !== undefined && left.value === right.value) return [];
    const change = left && right ? right.value - left.value : undefined;
    return [{ metric, before: left, after: right, change, isApart: areApart(left, right) }];
  });
}

function areApart(left: Metric | undefined, right: Metric | undefined): boolean | undefined {
  if (left?.low === undefined || left.high === undefined || right?.low === undefined || right.high === undefined) {
    return undefined;
  }
  return left.high < right.low || right.high < left.low;
}

/** Leaves that differ, mappings key by key and lists item by item. */
function differences(before: unknown, after: unknown, path = ''): ValueDifference[] {
  if (isContainer(before) && isContainer(after)) {
    const keys = new Set([...Object.keys(before), ...Object.keys(after)]);
    const below = (key: string) => (path === '' ? key : `${path}.${key}`);
    return [...keys].flatMap((key) => differences(before[key], after[key], below(key)));
  }
  return JSON.stringify(before) === JSON.stringify(after) ? [] : [{ path, before, after }];
}

function isContainer(value: unknown): value is Readonly<Record<string, unknown>> {
  return value !== null && typeof value === 'object';
}
