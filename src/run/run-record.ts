/** run.json: the versioned summary of a run, built from its events alone. docs/run-format.md describes it for readers. */
import type {
  DeviceUsage,
  ErrorRecord,
  ExpectationRecord,
  MemoryRecord,
  OutputRecord,
  RunEvent,
  RunReason,
  RunStatus,
} from './events.ts';
import type { Metric, ReportTable } from './stage-api.ts';

export type StageStatus =
  | 'waiting'
  | 'running'
  | 'cached'
  | 'ran'
  | 'failed'
  | 'interrupted'
  /** A stage that it needs did not succeed. */
  | 'blocked'
  /** It need not run: its condition is false, or it takes an output of a skipped stage. */
  | 'skipped'
  /** The run was stopped, or another stage failed, before it was its turn. */
  | 'not-started';

export interface StageRecord {
  readonly name: string;
  readonly kind: string;
  readonly status: StageStatus;
  /** What is known of it before it runs; absent in records of fr1 before these were kept, as are `inputs`. */
  readonly version?: number;
  readonly seed?: number;
  readonly options?: Readonly<Record<string, unknown>>;
  readonly switches?: Readonly<Record<string, string>> | undefined;
  readonly settings?: Readonly<Record<string, unknown>> | undefined;
  readonly code?: string | undefined;
  /** Content digests by JSON pointer of the option. */
  readonly inputs?: Readonly<Record<string, string>>;
  readonly fingerprint?: string;
  readonly reason?: RunReason;
  /** Whether it continued from checkpoints of an earlier run. */
  readonly resumed?: boolean;
  readonly device?: string | null;
  /** Of a cached stage: how long it took when it ran. */
  readonly durationMs?: number;
  /** Of a stage that ran; absent in records of old versions. */
  readonly memory?: MemoryRecord;
  readonly outputs: Readonly<Record<string, OutputRecord>>;
  readonly metrics: Readonly<Record<string, Metric>>;
  readonly tables: readonly ReportTable[];
  readonly missedExpectations: readonly ExpectationRecord[];
  readonly warnings: readonly string[];
  readonly error?: ErrorRecord;
  /** Of a skipped stage. */
  readonly skippedBecause?: string;
  /** Attempts that failed before the last one. */
  readonly failedAttempts?: readonly ErrorRecord[];
}

/** A result that the pipeline's `outputs` want at a place of their own. */
export interface PlacedRecord {
  readonly output: string;
  readonly path: string;
  readonly error?: ErrorRecord;
}

export interface RunRecord {
  readonly version: 1;
  readonly id: string;
  readonly pipeline: string;
  readonly file: string;
  readonly workspace: string;
  readonly seed: number;
  readonly device: string;
  readonly status: RunStatus;
  readonly startedAt: string;
  readonly finishedAt?: string;
  readonly durationMs?: number;
  readonly environment: Readonly<Record<string, string | number>>;
  readonly stages: readonly StageRecord[];
  /** Devices that were lent, by the end of the run; absent in records of old versions. */
  readonly devices?: readonly DeviceUsage[];
  /** Places named under `outputs` of the pipeline; absent where there are none. */
  readonly placed?: readonly PlacedRecord[];
}

type RunStarted = Extract<RunEvent, { type: 'run-started' }>;

export function startRecord(event: RunStarted, environment: RunRecord['environment']): RunRecord {
  const { run, pipeline, file, workspace, seed, device, time } = event;
  return {
    version: 1,
    id: run,
    pipeline,
    file,
    workspace,
    seed,
    device,
    status: 'running',
    startedAt: time,
    environment,
    devices: [],
    stages: event.stages.map((summary) => ({
      ...summary,
      status: 'waiting',
      outputs: {},
      metrics: {},
      tables: [],
      missedExpectations: [],
      warnings: [],
    })),
  };
}

/** The record after one more event; the same object when the event does not show in it. */
export function applyEvent(record: RunRecord, event: RunEvent): RunRecord {
  switch (event.type) {
    case 'run-finished':
      return { ...record, status: event.status, finishedAt: event.time, durationMs: event.durationMs };
    case 'stage-planned':
      return withStage(record, event.stage, {
        fingerprint: event.fingerprint,
        inputs: event.inputs,
        reason: event.reason,
      });
    case 'stage-started':
      return withStage(record, event.stage, { status: 'running', resumed: event.resumes, device: event.device });
    case 'stage-cached': {
      const { fingerprint, inputs, outputs, metrics, tables, durationMs } = event;
      return withStage(record, event.stage, {
        status: 'cached',
        fingerprint,
        inputs,
        outputs,
        metrics,
        tables,
        durationMs,
      });
    }
    case 'stage-finished': {
      const { outputs, metrics, tables, durationMs, memory } = event;
      return withStage(record, event.stage, {
        status: 'ran',
        ...(memory && { memory }),
        outputs,
        metrics,
        tables,
        durationMs,
      });
    }
    case 'stage-failed':
      return withStage(record, event.stage, { status: 'failed', error: event.error, durationMs: event.durationMs });
    case 'stage-stopped':
      return withStage(record, event.stage, { status: event.why });
    case 'stage-expectation-failed':
      return withStage(record, event.stage, (stage) => ({
        missedExpectations: [...stage.missedExpectations, event.expectation],
      }));
    case 'stage-warn':
      return withStage(record, event.stage, (stage) => ({ warnings: [...stage.warnings, event.message] }));
    case 'device-usage': {
      const { type: _, time: __, ...usage } = event;
      return { ...record, devices: [...(record.devices ?? []), usage] };
    }
    case 'stage-skipped':
      return withStage(record, event.stage, { status: 'skipped', skippedBecause: event.why });
    case 'stage-retrying':
      return withStage(record, event.stage, (stage) => ({
        failedAttempts: [...(stage.failedAttempts ?? []), event.error],
      }));
    case 'output-placed':
      return { ...record, placed: [...(record.placed ?? []), { output: event.output, path: event.path }] };
    case 'output-failed': {
      const { output, path, error } = event;
      return { ...record, placed: [...(record.placed ?? []), { output, path, error }] };
    }
    case 'run-started':
    case 'stage-quiet':
    case 'device-busy':
    case 'device-leased':
    case 'device-released':
    case 'run-warn':
    case 'stage-progress':
    case 'stage-metric':
    case 'stage-log':
    case 'stage-memory':
      return record;
    default:
      throw new TypeError(`unknown event ${(event satisfies never as RunEvent).type}`);
  }
}

function withStage(
  record: RunRecord,
  name: string,
  change: Partial<StageRecord> | ((stage: StageRecord) => Partial<StageRecord>),
): RunRecord {
  const at = record.stages.findIndex((stage) => stage.name === name);
  const stage = record.stages[at];
  if (!stage) return record;
  // NOTE: `map` would look at every stage of thousands for every event.
  const stages = record.stages.slice();
  stages[at] = { ...stage, ...(typeof change === 'function' ? change(stage) : change) };
  return { ...record, stages };
}
