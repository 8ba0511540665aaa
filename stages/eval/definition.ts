/** The stage for a given way of opening a checkpoint; tests give another than `stage.ts`. */
import type { SessionSource } from '../../src/engine/program.ts';
import { sourceOfLease } from '../../src/pool/session-source.ts';
import { loadStageSchema } from '../../src/run/load-schema.ts';
import { defineStage, type OptionProblem, type StageDefinition } from '../../src/run/stage-api.ts';
import { defaultBatchSize } from './batch-size.ts';
import type { EvaluatedModel } from './evaluate.ts';
import type { EvalOptions } from './options.ts';
import { rulesOf } from './rules.ts';

/** A model that stays open until it is disposed of. */
export type OpenedModel = EvaluatedModel & AsyncDisposable;

/** Bounds on the area of resized images; the model folder's where they are not given. */
export interface PixelBudget {
  readonly minPixels: number | undefined;
  readonly maxPixels: number | undefined;
}

/** Opens the checkpoint in a folder for a stage that has a device; `batchSize` answers are decoded at a time. */
export type OpenModel = (
  source: SessionSource,
  checkpointFolder: string,
  settings: { readonly pixels: PixelBudget; readonly batchSize: number },
) => Promise<OpenedModel>;

/** The switches as these options set them; the order of the options was chosen before where answers exist already. */
function switchesOf(options: EvalOptions): Record<string, string> {
  const { optionOrder, standardFrom, openFallback, emptyCarLabel } = rulesOf(options);
  const scoring = { standardFrom, openFallback, emptyCarLabel };
  return options.outputs === undefined ? { optionOrder, ...scoring } : scoring;
}

/** What decides how a model is asked, apart from options that have a default. */
const ASKING = ['optionOrder', 'temperature', 'topP', 'topK', 'repetitionPenalty', 'minPixels', 'maxPixels'] as const;

function validate(options: EvalOptions): OptionProblem[] {
  const problems: OptionProblem[] = [];
  const { model, outputs, data, lists, similarity, minPixels, maxPixels } = options;
  if ((model === undefined) === (outputs === undefined)) {
    problems.push({
      pointer: model === undefined ? '' : '/outputs',
      message: 'either model or outputs must be given, and not both',
      hint: 'model answers the questions; outputs are answers that exist already',
    });
  }
  for (const name of outputs === undefined || model !== undefined ? [] : ASKING) {
    if (options[name] === undefined) continue;
    problems.push({
      pointer: `/${name}`,
      message: `"${name}" means nothing for answers that exist already`,
      hint: 'remove it',
    });
  }
  if (data === undefined && (outputs === undefined || lists === undefined)) {
    problems.push({
      pointer: '',
      message: 'data is missing',
      hint: 'give test sets by name; only outputs can do with lists instead',
    });
  } else if (data !== undefined && lists !== undefined) {
    problems.push({ pointer: '/lists', message: 'lists only count where there is no data' });
  }
  if (similarity && (similarity.model === undefined) === (similarity.hub === undefined)) {
    problems.push({ pointer: '/similarity', message: 'either model or hub must be given, and not both' });
  }
  if (minPixels !== undefined && maxPixels !== undefined && minPixels > maxPixels) {
    problems.push({ pointer: '/minPixels', message: `minPixels is above maxPixels ${maxPixels}` });
  }
  return problems;
}

export function defineEvalStage(openModel: OpenModel): StageDefinition<EvalOptions> {
  return defineStage<EvalOptions>({
    kind: 'eval',
    summary: 'Answers test questions with a model and scores closed- and open-world accuracy.',
    version: 5,
    schema: loadStageSchema(import.meta.url),
    outputs: {
      predictions: { type: 'predictions', description: 'Every answer with its score.' },
      metrics: { type: 'metrics', description: 'Accuracies with 95 % intervals.' },
    },
    switches: switchesOf,
    deviceDefaults: (provider) => ({ batchSize: defaultBatchSize(provider) }),
    resources: ({ model }) => ({ device: model !== undefined }),
    validate,
    async check(context) {
      const { checkEval } = await import('./check.ts');
      await checkEval(context);
    },
    async run(context) {
      const { evaluate } = await import('./evaluate.ts');
      const { model: checkpoint, batchSize } = context.options;
      if (checkpoint === undefined) return evaluate(context, null);
      const { minPixels, maxPixels } = rulesOf(context.options);
      const pixels = { minPixels: minPixels ?? undefined, maxPixels: maxPixels ?? undefined };
      const source = sourceOfLease(context.lease);
      const settings = { pixels, batchSize: batchSize ?? defaultBatchSize(source.provider) };
      await using model = await openModel(source, checkpoint.path, settings);
      return evaluate(context, model);
    },
  });
}
