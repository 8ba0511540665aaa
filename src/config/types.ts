/**
 * A validated pipeline: what `loadPipeline` returns. Expressions are resolved, defaults applied, edges type-checked;
 * every part keeps the place in the user's text that it came from. What the executor must do with `if`, `retry`,
 * `timeoutMs`, `expect`, `resources`, `outputs` and secrets is said at each.
 */
import type { ArtifactType } from '../artifacts/types.ts';
import type { SourcePosition } from '../errors/fr1-error.ts';
import type { StageDefinition } from '../run/stage-api.ts';

/** Stands in an option for an output of another stage, until that stage has run. */
export interface ArtifactRef {
  readonly kind: 'artifact-ref';
  readonly stage: string;
  readonly output: string;
  readonly type: ArtifactType;
}

/** Stands in an option for a folder of the user. */
export interface LocalInput {
  readonly kind: 'local-input';
  /** Absolute. */
  readonly path: string;
  /** As the user wrote it; relative paths start at the pipeline file's folder. */
  readonly written: string;
  readonly type: ArtifactType;
}

/** One artifact option of a stage. */
export interface StageInput {
  /** JSON pointer into the options, e.g. `/model` or `/data/0`. */
  readonly pointer: string;
  readonly source: ArtifactRef | LocalInput;
  readonly position: SourcePosition;
}

/**
 * A gate on a metric that the stage returns; a value outside fails the run, also when the stage came from the cache.
 * Every member given must hold; a metric that the stage did not return holds none. No part of the fingerprint.
 */
export interface Expectation {
  readonly metric: string;
  readonly atLeast?: number;
  readonly atMost?: number;
  /** `|value - of| <= tolerance`. */
  readonly within?: { readonly of: number; readonly tolerance: number };
  readonly betterThan?: BetterThan;
  readonly position: SourcePosition;
}

/**
 * The metric must beat that of another stage by more than `by`, at a significance level: the one-sided test of
 * `value - other > by` has p < `significance`. The other stage is a dependency, so its metrics are there.
 */
export interface BetterThan {
  /** One stage: the id of a cell where the stage has a matrix. */
  readonly stage: string;
  readonly metric: string;
  /** Smallest difference that counts, in units of the metric. @default 0 */
  readonly by: number;
  /** In (0, 0.5]. @default 0.05 */
  readonly significance: number;
  /** Which side is better. @default higher */
  readonly direction: 'higher' | 'lower';
}

export interface StageNeed {
  readonly stage: string;
  readonly position: SourcePosition;
}

/** How a stage ended, as conditions see it. `succeeded` holds for cached stages too. */
export type StageEnding = 'succeeded' | 'failed' | 'skipped';

/** What a condition may ask; the executor answers for the stages under `Condition.stages`. */
export interface ConditionFacts {
  ending(stage: string): StageEnding;
  /** `undefined` when the stage did not return it. */
  metric(stage: string, metric: string): number | undefined;
}

/**
 * The `if` of a stage. The executor evaluates it once, when all dependencies have ended (succeeded, failed or skipped),
 * and skips the stage when it is false: a skipped stage is no failure, has no outputs, and skips in turn those that take
 * one of its outputs. A stage that merely names it under `needs` treats it as done.
 *
 * Unless `toleratesFailure`, a dependency that failed blocks the stage as if it had no condition. Even then an output
 * that does not exist blocks it.
 */
export interface Condition {
  /** As written, for messages. */
  readonly text: string;
  readonly position: SourcePosition;
  /** Stages whose ending or metrics it reads by name; they are dependencies. */
  readonly stages: readonly string[];
  /** Whether it asks failure(), success() or always(), or `stages.x.status`. */
  readonly toleratesFailure: boolean;
  /** Set where variables, the seed and the matrix decide alone; such a stage needs no facts. */
  readonly constant?: boolean;
  /**
   * @param dependencies ids of all dependencies of the stage, for success() and failure()
   * @throws Fr1Error CONDITION_INVALID when a metric that it compares is missing
   */
  evaluate(facts: ConditionFacts, dependencies: readonly string[]): boolean;
}

/**
 * Further attempts after a failure that is neither an interrupt nor wrong input (exit code 2). The nth wait is
 * `min(maxDelayMs, delayMs * factor ** (n - 1))`; it ends at once on abort. Attempts resume from the stage's state.
 */
export interface Retry {
  /** Attempts after the first, at least 1. */
  readonly times: number;
  readonly delayMs: number;
  readonly factor: number;
  readonly maxDelayMs: number;
}

/** What the user says about a stage's needs; wins over what the definition derives from its options. */
export interface ResourceWish {
  readonly memoryBytes?: number;
  /** Places of `--jobs` that the stage takes; capped by `--jobs`. @default 1 */
  readonly slots?: number;
}

/** A variable of the environment that the pipeline declares. Its value is a secret, see secrets.ts. */
export interface EnvDeclaration {
  readonly name: string;
  /** Whether it may be unset; it is then the empty text. */
  readonly optional: boolean;
  readonly position: SourcePosition;
}

/**
 * A result to place where the user wants it, done when the stage that makes it has succeeded or was cached. The folder
 * is replaced as a whole, and only when fr1 placed it there or it is absent or empty. No part of the fingerprint.
 */
export interface PipelineOutput {
  /** Relative to the pipeline file's folder, as written; it never leaves that folder. */
  readonly written: string;
  /** Absolute. */
  readonly path: string;
  readonly source: ArtifactRef;
  /** `link`: a symbolic link to the folder in the store. @default copy */
  readonly mode: 'copy' | 'link';
  readonly position: SourcePosition;
}

export interface PipelineStage {
  /** Unique id: the name in the file, and for a cell of a matrix that name and the cell's values, e.g. `eval.seen.open`. */
  readonly name: string;
  /** The name in the file; the cells of a matrix share it. */
  readonly group: string;
  /** Values of the cell by axis. */
  readonly matrix?: Readonly<Record<string, unknown>>;
  readonly definition: StageDefinition;
  /**
   * Resolved options with defaults; an artifact option holds an {@link ArtifactRef} or a {@link LocalInput}. A text with a
   * secret still holds `${{ env.NAME }}`: this form is what is fingerprinted, printed and stored, and the executor puts
   * the value in just before it calls `run` (secrets.ts).
   */
  readonly options: Readonly<Record<string, unknown>>;
  /** Every artifact option, sorted by pointer. */
  readonly inputs: readonly StageInput[];
  /** Stages named under `needs`, besides those that `inputs` refer to. */
  readonly needs: readonly StageNeed[];
  readonly expect: readonly Expectation[];
  /** Absent: runs when its dependencies have succeeded. */
  readonly if?: Condition;
  /** Absent: one attempt. */
  readonly retry?: Retry;
  /** Of one attempt, waiting for a device or slot excluded; its end fails the attempt. Absent: none. */
  readonly timeoutMs?: number;
  readonly resources?: ResourceWish;
  /** Where the stage's name stands. */
  readonly position: SourcePosition;
  /** Where the option at a JSON pointer stands; of one that is not written, what would hold it. */
  positionOf(pointer: string): SourcePosition;
}

export interface Pipeline {
  /** The file as the user named it. */
  readonly file: string;
  /** Absolute folder of the file. */
  readonly folder: string;
  readonly name: string;
  readonly seed: number;
  /** Resolved. */
  readonly vars: Readonly<Record<string, unknown>>;
  /** Declared variables of the environment, in file order. */
  readonly env: readonly EnvDeclaration[];
  readonly outputs: readonly PipelineOutput[];
  /** Cells of matrices expanded, in file order. */
  readonly stages: readonly PipelineStage[];
}
