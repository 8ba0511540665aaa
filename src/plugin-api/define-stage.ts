/** What a plugin's author writes: a stage whose options, outputs and metrics are typed from its own definition. */
import type { Artifact, Metric } from '../artifacts/types.ts';
import type {
  CheckContext,
  OptionProblem,
  OutputSpec,
  ReportTable,
  ResourceRequest,
  StageContext,
} from '../run/stage-api.ts';
import type { OptionsOf, StageOptionsSchema } from './options-of.ts';

export interface PluginStage<
  Schema extends StageOptionsSchema,
  Outputs extends Readonly<Record<string, OutputSpec>>,
  MetricName extends string,
> {
  /** Name of the kind in messages and fingerprints: letters, digits and `-`. */
  readonly kind: string;
  /** One sentence for `fr1 stages`. */
  readonly summary: string;
  /** Part of the cache key: a whole number; raise it when the same options would give another result. */
  readonly version: number;
  /** JSON Schema (2020-12) of the options. */
  readonly schema: Schema;
  /** What the stage makes, by name; `run` must fill the folder of each. */
  readonly outputs: Outputs;
  /** Names of the metrics that `run` returns; `expect` may test these. @default any name */
  readonly metrics?: readonly MetricName[];
  /** Options that change nothing about the result (e.g. how often to log); left out of the cache key. @default none */
  readonly cosmeticOptions?: readonly (keyof Schema['properties'] & string)[];
  /** What the stage needs. Artifact options are not known yet. @default no device */
  resources?(options: OptionsOf<Schema, unknown>): ResourceRequest;
  /** Problems that the schema cannot express. Artifact options are not known yet. @default none */
  validate?(options: OptionsOf<Schema, unknown>): readonly OptionProblem[];
  /**
   * Outputs in which these options leave nothing, each with the reason: a stage that takes one is told of before anything
   * runs. Artifact options are not known yet. @default none
   */
  emptyOutputs?(options: OptionsOf<Schema, unknown>): { readonly [Name in keyof Outputs]?: string };
  /**
   * Looks at data that exists already, for `fr1 check`; what it throws or hands to `context.problem` is reported.
   * @default nothing
   */
  check?(context: CheckContext<OptionsOf<Schema, Artifact>>): Promise<void>;
  /** Does the work. It must stop soon after `context.signal` is aborted, by throwing the signal's reason. */
  run(context: PluginContext<Schema, Outputs>): Promise<PluginResult<MetricName>>;
}

/** What `run` sees. */
export type PluginContext<Schema, Outputs> = Omit<StageContext<OptionsOf<Schema, Artifact>>, 'outputs'> & {
  /** One empty absolute folder per output; they are committed together when `run` returns. */
  readonly outputs: { readonly [Name in keyof Outputs]: string };
};

export interface PluginResult<MetricName extends string> {
  readonly metrics?: { readonly [Name in MetricName]?: Metric };
  /** Tables to show at the end of the run. */
  readonly tables?: readonly ReportTable[];
}

/** A plugin is a module whose default export is what this returns. */
export function defineStage<
  const Schema extends StageOptionsSchema,
  const Outputs extends Readonly<Record<string, OutputSpec>>,
  const MetricName extends string = string,
>(stage: PluginStage<Schema, Outputs, MetricName>): PluginStage<Schema, Outputs, MetricName> {
  return stage;
}
