/**
 * What happens during a run, as one typed union. The executor emits, everything else (terminal, `--json`, events.jsonl)
 * subscribes. docs/run-format.md describes the JSON form; adding a field is compatible, changing one raises `version`.
 */
import type { ArtifactType, Metric } from '../artifacts/types.ts';
import type { BetterThan } from '../config/types.ts';
import type { SourcePosition } from '../errors/fr1-error.ts';
import type { FieldChange } from '../plan/types.ts';
import type { Progress, ReportTable } from './stage-api.ts';

export const RUN_FORMAT_VERSION = 1;

/** Why a stage runs instead of being taken from the cache. */
export type RunReason =
  | { readonly kind: 'first' }
  | { readonly kind: 'unfinished' }
  | { readonly kind: 'forced' }
  | { readonly kind: 'changed'; readonly changes: readonly FieldChange[] }
  | { readonly kind: 'damaged'; readonly output: string; readonly detail: string };

export interface OutputRecord {
  readonly type: ArtifactType;
  readonly digest: string;
  /** Absolute directory in the store. */
  readonly path: string;
}

export interface ErrorRecord {
  readonly code: string;
  readonly message: string;
  readonly hint?: string | undefined;
  readonly at?: SourcePosition | undefined;
  /** Messages of the causes, outermost first. */
  readonly causes?: readonly string[] | undefined;
  /** Of an error that fr1 does not know; for the log, not for the terminal. */
  readonly stack?: string | undefined;
}

export interface ExpectationRecord {
  readonly metric: string;
  readonly atLeast?: number | undefined;
  readonly atMost?: number | undefined;
  readonly within?: { readonly of: number; readonly tolerance: number } | undefined;
  readonly betterThan?: BetterThanRecord | undefined;
  readonly got: Metric | null;
  readonly met: boolean;
}

export interface BetterThanRecord extends BetterThan {
  /** The metric compared with; `null` where the other stage did not return it. */
  readonly other: Metric | null;
  /** Probability of such a difference, or a larger one, when there is none; `null` where it cannot be tested. */
  readonly p: number | null;
}

/** Of the process while a stage ran: other stages at the same time, and what earlier ones left, count in it. */
export interface MemoryRecord {
  /** What the stage expected to take at most, by itself; absent where it did not say. */
  readonly expectedBytes?: number | undefined;
  /** When it started. */
  readonly startBytes: number;
  readonly peakBytes: number;
}

export interface DeviceUsage {
  readonly device: string;
  readonly leases: number;
  readonly leasedMs: number;
  /** Part of the run's time in which it was lent, 0 to 1. */
  readonly share: number;
}

/** What is known of a stage before anything runs. */
export interface StageSummary {
  readonly name: string;
  readonly kind: string;
  /** Of the kind. */
  readonly version: number;
  readonly seed: number;
  /** With defaults; an output of a stage, a local path and a secret stand as the user would write them. */
  readonly options: Readonly<Record<string, unknown>>;
  /** Method switches as they are used, by name; absent where the kind has none. */
  readonly switches?: Readonly<Record<string, string>> | undefined;
  /** What the options that a preset may fill come to, where the kind has presets. */
  readonly settings?: Readonly<Record<string, unknown>> | undefined;
  /** Of a plugin: `name@version` of its package, or the digest of its files. */
  readonly code?: string | undefined;
}

export type RunStatus = 'running' | 'done' | 'failed' | 'interrupted' | 'cut-off';

/** Every event; `time` is added by the hub. */
export type RunEventBody =
  | {
      readonly type: 'run-started';
      readonly version: typeof RUN_FORMAT_VERSION;
      readonly run: string;
      readonly pipeline: string;
      readonly file: string;
      readonly workspace: string;
      readonly seed: number;
      readonly device: string;
      readonly stages: readonly StageSummary[];
    }
  /** The stage's inputs are known and it has to run; it starts when a slot and, where needed, a device are free. */
  | {
      readonly type: 'stage-planned';
      readonly stage: string;
      readonly fingerprint: string;
      /** Content digests by JSON pointer of the option. */
      readonly inputs: Readonly<Record<string, string>>;
      readonly reason: RunReason;
      readonly needsDevice: boolean;
    }
  | {
      readonly type: 'stage-cached';
      readonly stage: string;
      readonly fingerprint: string;
      readonly inputs: Readonly<Record<string, string>>;
      readonly outputs: Readonly<Record<string, OutputRecord>>;
      readonly metrics: Readonly<Record<string, Metric>>;
      readonly tables: readonly ReportTable[];
      /** When and how long the stage ran when it was made. */
      readonly finishedAt: string;
      readonly durationMs: number;
    }
  | {
      readonly type: 'stage-started';
      readonly stage: string;
      /** Whether it finds a state directory that an earlier, unfinished run left. */
      readonly resumes: boolean;
      readonly device: string | null;
    }
  | ({ readonly type: 'stage-progress'; readonly stage: string } & Progress)
  | {
      readonly type: 'stage-metric';
      readonly stage: string;
      readonly step: number;
      readonly values: Readonly<Record<string, number>>;
    }
  | { readonly type: 'stage-log'; readonly stage: string; readonly message: string }
  /** How much memory a stage expects to take at most, and what for: its largest parts, in words. */
  | {
      readonly type: 'stage-memory';
      readonly stage: string;
      readonly expectedBytes: number;
      readonly parts: Readonly<Record<string, number>>;
    }
  | { readonly type: 'stage-warn'; readonly stage: string; readonly message: string }
  | {
      readonly type: 'stage-finished';
      readonly stage: string;
      readonly fingerprint: string;
      readonly durationMs: number;
      /** Absent in events of old versions. */
      readonly memory?: MemoryRecord;
      readonly outputs: Readonly<Record<string, OutputRecord>>;
      readonly metrics: Readonly<Record<string, Metric>>;
      readonly tables: readonly ReportTable[];
    }
  | { readonly type: 'stage-failed'; readonly stage: string; readonly durationMs: number; readonly error: ErrorRecord }
  /** An attempt failed and another one follows after a wait. */
  | {
      readonly type: 'stage-retrying';
      readonly stage: string;
      /** Of the attempt that failed, from 1. */
      readonly attempt: number;
      readonly attempts: number;
      readonly delayMs: number;
      readonly error: ErrorRecord;
    }
  /** A running stage has said nothing for a while. */
  | { readonly type: 'stage-quiet'; readonly stage: string; readonly quietMs: number; readonly hint: string }
  /** It need not run: its condition is false, or it takes an output of a skipped stage. */
  | { readonly type: 'stage-skipped'; readonly stage: string; readonly why: string }
  /** A result was put where the pipeline's `outputs` want it, or is there already. */
  | {
      readonly type: 'output-placed';
      readonly output: string;
      readonly path: string;
      readonly digest: string;
      readonly mode: 'copy' | 'link';
      readonly isNew: boolean;
    }
  | { readonly type: 'output-failed'; readonly output: string; readonly path: string; readonly error: ErrorRecord }
  /** A finished or cached stage whose metric lies outside the pipeline's bounds. */
  | { readonly type: 'stage-expectation-failed'; readonly stage: string; readonly expectation: ExpectationRecord }
  | {
      readonly type: 'stage-stopped';
      readonly stage: string;
      /**
       * `interrupted`: it was running when the run was stopped; `blocked`: a stage that it needs did not succeed;
       * `not-started`: the run was stopped, or another stage failed (`by`), before it was its turn.
       */
      readonly why: 'interrupted' | 'blocked' | 'not-started';
      readonly by?: string | undefined;
    }
  | { readonly type: 'run-warn'; readonly message: string }
  /** A stage waits for what another process of this machine holds, or waits for before it. */
  | {
      readonly type: 'device-busy';
      readonly stage: string;
      readonly pid: number;
      /** `pipeline/stage` of the other process. */
      readonly holder: string;
      /** `null` when that one waits too. */
      readonly device: string | null;
      /** Since when the other one has the device, or waits. */
      readonly since: string;
    }
  | { readonly type: 'device-leased'; readonly device: string; readonly stage: string; readonly waitedMs: number }
  | { readonly type: 'device-released'; readonly device: string; readonly stage: string; readonly heldMs: number }
  /** How much of the run a device was lent; told at the end for each device that was. */
  | ({ readonly type: 'device-usage' } & DeviceUsage)
  | {
      readonly type: 'run-finished';
      readonly status: Exclude<RunStatus, 'running' | 'cut-off'>;
      readonly durationMs: number;
      readonly ran: number;
      readonly cached: number;
      readonly failed: number;
      readonly skipped: number;
      /** Absolute path of run.json. */
      readonly record: string;
    };

export type RunEvent = RunEventBody & {
  /** ISO 8601 with milliseconds, UTC. */
  readonly time: string;
};

export type RunEventListener = (event: RunEvent) => void;

/** Hands each event to every subscriber in the order of subscription, synchronously. */
export class RunEventHub {
  readonly #listeners = new Set<RunEventListener>();
  readonly #mask: <Body extends RunEventBody>(body: Body) => Body;

  /** `mask` takes out of every event what nobody may see. */
  constructor(mask: <Body extends RunEventBody>(body: Body) => Body = (body) => body) {
    this.#mask = mask;
  }

  emit(body: RunEventBody): void {
    const event: RunEvent = { ...this.#mask(body), time: new Date().toISOString() };
    for (const listener of this.#listeners) listener(event);
  }

  /** Returns the function that ends the subscription. */
  subscribe(listener: RunEventListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}
