/** What a run will do: stages in execution order, and the fields that decide whether a stage must run again. */
import type { Pipeline, PipelineStage } from '../config/types.ts';
import type { ResourceRequest } from '../run/stage-api.ts';

export type {
  ArtifactRef,
  BetterThan,
  Condition,
  ConditionFacts,
  Expectation,
  LocalInput,
  Pipeline,
  PipelineOutput,
  PipelineStage,
  Retry,
  StageEnding,
  StageInput,
  StageNeed,
} from '../config/types.ts';

export interface PlannedStage extends Omit<PipelineStage, 'resources'> {
  /**
   * Ids of the stages that must end before this one starts, without repeats, in execution order: those whose outputs it
   * takes, `needs`, the stages of its condition and of `betterThan`.
   */
  readonly dependencies: readonly string[];
  /** Effective seed: `with.seed` where the stage has one, else derived from the run's seed and the stage's name. */
  readonly seed: number;
  /** What the definition asks for, given these options, with the file's own `resources` put over it. */
  readonly resources: ResourceRequest;
  /** Whether a finished result must not be reused (`--force`). */
  readonly forced: boolean;
}

export interface Selection {
  /** Only these stages and what they need. @default all */
  readonly only?: readonly string[];
  /** Only these stages, what follows from them, and what all of these need. @default all */
  readonly from?: readonly string[];
  /** Nothing that follows from these stages. @default all */
  readonly until?: readonly string[];
  /** Re-run these and what follows, although they are finished; `true` means all. @default none */
  readonly force?: true | readonly string[];
}

export interface Plan {
  readonly pipeline: Pipeline;
  /** The chosen stages; each comes after its dependencies, else in file order. */
  readonly order: readonly PlannedStage[];
  /** Names of the stages that the selection leaves out, in file order. */
  readonly leftOut: readonly string[];
}

/** Settings outside the pipeline file that change numbers. */
export interface Numerics {
  /** Numerics version of fr1: raised when the engine computes something differently. */
  readonly fr1: string;
  readonly onnxruntime: string;
  /** Execution provider, e.g. `cpu`. */
  readonly provider: string;
  readonly threads: number;
}

/** Everything that decides a stage's result, under permanent names. */
export interface FingerprintFields {
  /** Version of this struct. */
  readonly version: 1;
  readonly kind: string;
  readonly stageVersion: number;
  /** Of a plugin: the digest of its files or `name@version` of its package. */
  readonly code?: string;
  /** Without cosmetic options; artifact options are `null` here, their digests are under `inputs`. */
  readonly options: Readonly<Record<string, unknown>>;
  /** Content digest by JSON pointer of the option. */
  readonly inputs: Readonly<Record<string, string>>;
  readonly seed: number;
  /** A stage that uses no device depends on `fr1` only. */
  readonly engine: Numerics | Pick<Numerics, 'fr1'>;
}

export interface Fingerprint {
  /** `sha256:<hex>` of the canonical JSON of `fields`. */
  readonly digest: string;
  readonly fields: FingerprintFields;
}

/** One named field that differs between two runs of a stage. */
export interface FieldChange {
  /** Dotted, e.g. `options.learningRate`. */
  readonly path: string;
  /** `undefined` when the field is new. */
  readonly before: unknown;
  /** `undefined` when the field is gone. */
  readonly after: unknown;
}
