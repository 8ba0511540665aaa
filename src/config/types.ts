/**
 * A validated pipeline: what `loadPipeline` returns. Expressions are resolved, defaults applied, edges type-checked;
 * every part keeps the place in the user's text that it came from.
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

/** Bounds on a metric that the stage returns; a value outside fails the run. */
export interface Expectation {
  readonly metric: string;
  readonly atLeast?: number;
  readonly atMost?: number;
  readonly position: SourcePosition;
}

export interface StageNeed {
  readonly stage: string;
  readonly position: SourcePosition;
}

export interface PipelineStage {
  readonly name: string;
  readonly definition: StageDefinition;
  /** Resolved options with defaults; an artifact option holds an {@link ArtifactRef} or a {@link LocalInput}. */
  readonly options: Readonly<Record<string, unknown>>;
  /** Every artifact option, sorted by pointer. */
  readonly inputs: readonly StageInput[];
  /** Stages named under `needs`, besides those that `inputs` refer to. */
  readonly needs: readonly StageNeed[];
  readonly expect: readonly Expectation[];
  /** Where the stage's name stands. */
  readonly position: SourcePosition;
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
  /** In file order. */
  readonly stages: readonly PipelineStage[];
}
