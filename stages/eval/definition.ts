/** The stage for a given way of opening a checkpoint; tests give another than `stage.ts`. */
import type { SessionSource } from '../../src/engine/program.ts';
import { sourceOfLease } from '../../src/pool/session-source.ts';
import { loadStageSchema } from '../../src/run/load-schema.ts';
import { defineStage, type StageDefinition } from '../../src/run/stage-api.ts';
import { type EvaluatedModel, evaluate } from './evaluate.ts';
import type { EvalOptions } from './options.ts';

/** A model that stays open until it is disposed of. */
export type OpenedModel = EvaluatedModel & AsyncDisposable;

export function defineEvalStage(
  openModel: (source: SessionSource, checkpointFolder: string) => Promise<OpenedModel>,
): StageDefinition<EvalOptions> {
  return defineStage<EvalOptions>({
    kind: 'eval',
    summary: 'Answers test questions with a model and scores closed- and open-world accuracy.',
    version: 1,
    schema: loadStageSchema(import.meta.url),
    outputs: {
      predictions: { type: 'predictions', description: 'Every answer with its score.' },
      metrics: { type: 'metrics', description: 'Accuracies with 95 % intervals.' },
    },
    resources: () => ({ device: true }),
    async run(context) {
      await using model = await openModel(sourceOfLease(context.lease), context.options.model.path);
      return evaluate(context, model);
    },
  });
}
