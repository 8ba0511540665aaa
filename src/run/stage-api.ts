/**
 * What a stage is and what it sees while it runs. Stages import this file and the engine, never the runner.
 */
import type { Artifact, ArtifactType, Metric } from '../artifacts/types.ts';
import type { DeviceInfo, Lease } from '../pool/lease.ts';

/** Kind of device: `cpu`, `webgpu`, `cuda`. */
export type Provider = DeviceInfo['provider'];

/** JSON Schema of a stage's options. A property with `"artifact": [types]` takes an artifact or a local folder. */
export interface OptionsSchema {
  readonly type: 'object';
  readonly properties: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
  readonly required?: readonly string[];
  readonly additionalProperties: false;
  readonly [keyword: string]: unknown;
}

export interface OutputSpec {
  readonly type: ArtifactType;
  readonly description: string;
}

export interface ResourceRequest {
  /** Whether the stage computes on a device; a stage without one runs beside others. */
  readonly device: boolean;
  /** Peak memory in bytes, where it is known. */
  readonly memoryBytes?: number;
  /** Places of `--jobs` that it takes. @default 1 */
  readonly slots?: number;
}

export interface StageDefinition<Options = Record<string, unknown>> {
  readonly kind: string;
  /** One sentence for `fr1 stages`. */
  readonly summary: string;
  /** Part of the cache key: raise it when the same options would give another result. */
  readonly version: number;
  readonly schema: OptionsSchema;
  readonly outputs: Readonly<Record<string, OutputSpec>>;
  /** Names of the metrics that `run` returns; `expect` may test these. */
  readonly metrics?: readonly string[];
  /** Options that may change without changing the result (e.g. logging); left out of the fingerprint. */
  readonly cosmeticOptions?: readonly string[];
  /** Where a plugin comes from; filled in by whoever loads it, absent in a built-in stage. */
  readonly origin?: StageOrigin;
  /**
   * The definition for options as they are written, for a kind whose outputs or metrics depend on them. Called before
   * the options are checked: `written` may be anything.
   */
  forOptions?(written: unknown): StageDefinition<Options>;
  /** The switches of the method as they are used with these options, for the record of the run. */
  switches?(options: Options): Readonly<Record<string, string>>;
  /** What the options that a preset may fill come to, by their names, for the record of the run. */
  settings?(options: Options): Readonly<Record<string, unknown>>;
  /** Options that have a default by kind of device, for the record of the run; the stage itself falls back on them. */
  deviceDefaults?(provider: Provider): Partial<Options>;
  resources(options: Options): ResourceRequest;
  /** Cross-checks of options that the schema cannot express; runs before anything is executed. */
  validate?(options: Options): readonly OptionProblem[];
  /**
   * Outputs in which these options leave nothing, by name, each with the reason, e.g. `{ test: 'testImages is 0' }`. An option
   * that takes one is an error of the pipeline. What depends on data is not known yet; artifacts are not there.
   */
  emptyOutputs?(options: Options): Readonly<Partial<Record<string, string>>>;
  /**
   * Preflight for `fr1 check`: looks at the data and models that exist already, row by row, without a device. Whatever it
   * throws is reported; a problem that leaves the rest worth looking at goes to `context.problem`.
   */
  check?(context: CheckContext<Options>): Promise<void>;
  run(context: StageContext<Options>): Promise<StageResult>;
}

/** Options before the pipeline runs: an artifact that no stage has made yet is `null`. */
export type Checkable<T> = T extends Artifact
  ? Artifact | null
  : T extends readonly (infer Item)[]
    ? readonly Checkable<Item>[]
    : T extends object
      ? { readonly [Key in keyof T]: Checkable<T[Key]> }
      : T;

/** What a stage sees while it is checked. */
export interface CheckContext<Options = Record<string, unknown>> {
  readonly name: string;
  readonly options: Checkable<Options>;
  /** Kind of device that stages will compute on. */
  readonly provider: Provider;
  readonly signal: AbortSignal;
  progress(progress: Progress): void;
  /** Reports a problem of the input, most often a Fr1Error, and goes on. */
  problem(error: Error): void;
  /** Reports what was looked at, e.g. `144 chats, at most 212 tokens`. */
  found(message: string): void;
  /** Adds to the room that the run needs in the workspace. */
  needsDisk(bytes: number): void;
}

export interface StageOrigin {
  /** As written under `uses`. */
  readonly uses: string;
  /** The module, absolute. */
  readonly file: string;
  /** Part of the cache key: the digest of a local plugin's files, or `name@version` of a package. */
  readonly code: string;
}

export interface OptionProblem {
  /** JSON pointer into the options, e.g. `/batchSize`. */
  readonly pointer: string;
  readonly message: string;
  readonly hint?: string;
}

export interface Progress {
  readonly done: number;
  readonly total: number;
  /** What is counted, e.g. `steps`, `images`. */
  readonly unit: string;
  /** A short live text, e.g. `loss 1.23  reward 0.41`. */
  readonly note?: string;
}

export interface StageContext<Options = Record<string, unknown>> {
  readonly name: string;
  /** Validated options; artifact options hold an {@link Artifact}. */
  readonly options: Options;
  /** One empty absolute directory per declared output; committed together when `run` returns. */
  readonly outputs: Readonly<Record<string, string>>;
  /** Absolute directory that survives a crash: what is written here is found again when the stage is resumed. */
  readonly state: string;
  /** Absolute folder of the pipeline file, at which the user's relative paths start. */
  readonly pipelineFolder: string;
  /** Derived from the run's seed and, where given, the stage's own. */
  readonly seed: number;
  readonly signal: AbortSignal;
  /** The device that the executor leased for this stage. @throws RUNTIME_UNAVAILABLE for a stage without a device */
  readonly lease: Lease;
  log(message: string): void;
  warn(message: string): void;
  /**
   * Tells how much memory the stage expects to take at most, before it takes it; kept beside what it took.
   *
   * @param parts bytes by what they are for, in words
   */
  expectMemory(bytes: number, parts?: Readonly<Record<string, number>>): void;
  progress(progress: Progress): void;
  /** Records training curves; `step` counts from 1. */
  metric(step: number, values: Readonly<Record<string, number>>): void;
}

export interface StageResult {
  readonly metrics?: Readonly<Record<string, Metric>>;
  /** Tables to show at the end of the run. */
  readonly tables?: readonly ReportTable[];
}

export interface ReportTable {
  readonly title: string;
  readonly columns: readonly string[];
  readonly rows: readonly (readonly string[])[];
  readonly notes?: readonly string[];
}

/** Identity function that keeps the option type. */
export function defineStage<Options>(definition: StageDefinition<Options>): StageDefinition<Options> {
  return definition;
}

export type { Artifact, ArtifactType, Metric };
