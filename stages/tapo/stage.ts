/** Triplet-augmented policy optimisation: the second stage of Fine-R1. The algorithm is src/engine/recipes/tapo.ts. */
import { strayAdapterSettings, trainingOf } from '../../src/engine/adapters/choice.ts';
import { createGenerator } from '../../src/engine/models/qwen2_5_vl/generator.ts';
import { ImageCache, withPixelBudget } from '../../src/engine/models/qwen2_5_vl/image-cache.ts';
import { openTrainingModel } from '../../src/engine/models/qwen2_5_vl/open-training-model.ts';
import { AdamW } from '../../src/engine/optim/adamw.ts';
import { type Score, type TapoTask, trainTapo } from '../../src/engine/recipes/tapo.ts';
import { informativeGroups } from '../../src/methods/group-filter.ts';
import { listSwitches, type MethodSwitches, methodSwitches } from '../../src/methods/presets.ts';
import { scoreResponse } from '../../src/methods/reward.ts';
import { stepsOfEpochs } from '../../src/methods/tapo-presets.ts';
import { sourceOfLease } from '../../src/pool/session-source.ts';
import { loadStageSchema } from '../../src/run/load-schema.ts';
import { defineStage, type OptionProblem } from '../../src/run/stage-api.ts';
import { curveValues, describeRun, gatherSamples, keepSamples, USED_SWITCHES } from './log.ts';
import type { TapoOptions } from './options.ts';
import { questionOf, readTriplets, type TripletQuestion } from './questions.ts';
import { openRewardFunction } from './reward-function.ts';
import { advantagesOf, filterOf, type ResolvedSettings, resolveSettings } from './settings.ts';

/** A reference policy has nothing to train. */
const FROZEN = { kind: 'full', towers: { vision: false, projector: false, text: false } } as const;

export const tapoStage = defineStage<TapoOptions>({
  kind: 'tapo',
  summary: 'Trains a model by reinforcement on triplets of images.',
  version: 3,
  schema: loadStageSchema(import.meta.url),
  outputs: {
    model: { type: 'checkpoint', description: 'the trained model with the tokenizer of the first' },
    samples: { type: 'rollouts', description: 'answers of the first groups of every step with their rewards' },
  },
  metrics: ['reward', 'accuracy', 'format', 'firstReward', 'keptShare', 'skippedSteps', 'skippedUpdates'],
  cosmeticOptions: ['saveEvery'],
  switches: usedSwitches,
  resources: () => ({ device: true }),
  validate,
  async check(context) {
    const { checkTapo } = await import('./check.ts');
    await checkTapo(context);
  },
  async run(context) {
    const { options, state, seed, signal } = context;
    const settings = resolveSettings(options);
    const { loss } = settings;
    const source = sourceOfLease(context.lease);
    const { model, processor, save } = await openTrainingModel(
      source,
      options.model.path,
      trainingOf(options.adapter, options.trainable, seed),
    );
    const optimizer = await AdamW.create(source, model.store, { weightDecay: settings.weightDecay });
    const generator = createGenerator(source, model.config, model.weights, {
      maxBatch: options.generationBatch,
    });
    const reference = loss.referenceKl ? await openTrainingModel(source, options.model.path, FROZEN) : null;
    try {
      const { info, rows } = await readTriplets(options.data.path);
      const switches = switchesOf(options);
      const totalSteps = stepsFor(settings, rows.length);
      const budget = { minPixels: settings.minPixels ?? undefined, maxPixels: settings.maxPixels ?? undefined };
      const imageSettings = withPixelBudget(processor.images, budget);
      const maker = {
        folder: options.data.path,
        prompt: options.prompt,
        settings,
        processor,
        imageSettings,
        images: new ImageCache(imageSettings),
        seed,
        totalSteps,
      };
      const text = (tokenIds: readonly number[]) => processor.decode(tokenIds, { skipSpecialTokens: true });
      const own = options.reward.function && (await openRewardFunction(options.reward.function.path, rows[0]!));
      const task: TapoTask<TripletQuestion> = {
        size: rows.length,
        question: (index, draw) => questionOf(rows[index]!, draw, maker),
        reward: ({ row }, tokenIds) =>
          own
            ? own({ response: text(tokenIds), label: row.label, question: row.question })
            : scoreResponse(text(tokenIds), row.label, options.reward.formatWeight, switches.rewardRule),
        advantages: (groups) => advantagesOf(groups, settings.advantages),
        informative: (accuracies) => informativeGroups(accuracies, filterOf(settings, switches.whenNoneInformative)),
      };
      describeRun(context, settings, switches, { weights: model.store.flat.length, rows: rows.length, totalSteps });
      let note = '';
      const showProgress = (done: number, activity = '') =>
        context.progress({
          done,
          total: totalSteps,
          unit: 'steps',
          note: [note, activity].filter((part) => part !== '').join('  '),
        });
      const summary = await trainTapo(
        model,
        optimizer,
        generator,
        task,
        {
          seed,
          totalSteps,
          groupsPerStep: settings.groupsPerStep,
          rollouts: settings.rollouts,
          ...(options.groupSize !== undefined && { groupSize: options.groupSize }),
          sampling: {
            maxNewTokens: settings.maxNewTokens,
            temperature: settings.temperature,
            topP: settings.topP,
            topK: 0,
            repetitionPenalty: 1,
            stopTokenIds: processor.tokens.eos,
            bannedTokenIds: processor.bannedTokens,
          },
          sharedNoise: switches.rolloutSeeds === 'shared',
          maxDraws: options.maxDraws,
          updatesPerStep: settings.updatesPerStep,
          loss,
          lossNormalisation: switches.lossNormalisation,
          lossAveraging: settings.lossAveraging,
          positiveConditioning: settings.positiveConditioning,
          ...(settings.fading && {
            fading: { to: settings.fading.to, steps: Math.max(1, settings.fading.share * totalSteps) },
          }),
          imitateAbove: settings.imitateAbove,
          learningRate: settings.learningRate,
          schedule: { kind: options.schedule, warmupSteps: options.warmupSteps },
          zeroFirstStep: switches.firstStepLearningRate === 'zero' && options.warmupSteps === 0,
          maxGradNorm: options.maxGradNorm,
          microBatchTokens: options.microBatchTokens,
          saveEvery: options.saveEvery,
          stateDir: state,
          signal,
        },
        {
          onResume: (steps) => context.log(`continuing after ${steps} of ${totalSteps} steps`),
          onActivity: (step, activity) => showProgress(step - 1, activity),
          onWarning: (message) => context.warn(message),
          async onStep(report) {
            note = `reward ${report.score.overall.toFixed(3)}  accuracy ${report.score.accuracy.toFixed(3)}`;
            if (report.keptGroups < settings.groupsPerStep / 2) {
              context.warn(
                `step ${report.step} learns from ${report.keptGroups} of ${settings.groupsPerStep} groups: in the other ` +
                  `${report.drawn.length - report.keptGroups} all answers were right or all wrong (accuracy ` +
                  `${report.score.accuracy.toFixed(2)}; near 0, fine-tune longer; near 1, there is little left to win)`,
              );
            }
            showProgress(report.step);
            context.metric(report.step, curveValues(report, text, info.classes));
            await keepSamples(context, report, text);
          },
        },
        reference?.model ?? null,
      );
      await save(context.outputs['model']!, options.dtype);
      await gatherSamples(context);
      const recent = (of: (score: Score) => number) => ({
        value: summary.recent.reduce((sum, score) => sum + of(score), 0) / summary.recent.length,
      });
      return {
        metrics: {
          reward: recent(({ overall }) => overall),
          accuracy: recent(({ accuracy }) => accuracy),
          format: recent(({ format }) => format),
          firstReward: { value: summary.first!.overall },
          keptShare: { value: summary.keptGroups / summary.drawnGroups },
          skippedSteps: { value: summary.skippedSteps },
          skippedUpdates: { value: summary.skippedUpdates },
        },
      };
    } finally {
      await generator.release();
      await reference?.model.release();
      await model.release();
      await optimizer.release();
    }
  },
});

function validate(options: TapoOptions): OptionProblem[] {
  const problems: OptionProblem[] = [];
  const { groupSize, minPixels, maxPixels } = options;
  const settings = resolveSettings(options);
  for (const key of strayAdapterSettings(options.adapter)) {
    problems.push({
      pointer: `/adapter/${key}`,
      message: `${key} only counts where adapter.kind is lora`,
      hint: 'an adapter that is continued keeps its own',
    });
  }
  if (!Object.values(options.trainable).includes(true)) {
    problems.push({ pointer: '/trainable', message: 'nothing is trained: vision, projector and text are all false' });
  }
  if (options.steps !== undefined && options.epochs !== undefined) {
    problems.push({ pointer: '/epochs', message: 'either steps or epochs may be given, not both' });
  } else if (settings.length === null) {
    problems.push({
      pointer: '',
      message: 'neither steps nor epochs is given',
      hint: 'only the presets fine-r1-3b and fine-r1-7b say how long to train',
    });
  }
  if (groupSize !== undefined && settings.views.positive !== 'none') {
    problems.push({
      pointer: '/groupSize',
      message: 'groupSize only counts where views.positive is none',
      hint: 'with a positive image a group has 2 * rollouts answers',
    });
  }
  if (minPixels !== undefined && maxPixels !== undefined && minPixels > maxPixels) {
    problems.push({ pointer: '/minPixels', message: `minPixels is above maxPixels ${maxPixels}` });
  }
  if (settings.filter && settings.filter.above >= settings.filter.below) {
    problems.push({ pointer: '/filter', message: 'no mean accuracy is above `above` and below `below`' });
  }
  return problems;
}

function stepsFor({ length, groupsPerStep }: ResolvedSettings, rows: number): number {
  if (length === null) throw new TypeError('validate() lets no such options through');
  return 'steps' in length ? length.steps : stepsOfEpochs(length.epochs, rows, groupsPerStep);
}

/** Those that training reads, for the record of the run. */
function usedSwitches(options: TapoOptions): Record<string, string> {
  const used = listSwitches(switchesOf(options)).filter(({ name }) => USED_SWITCHES.has(name));
  return Object.fromEntries(used.map(({ name, value }) => [name, value]));
}

function switchesOf(options: TapoOptions): MethodSwitches {
  const { whenNoneInformative, firstStepLearningRate, rolloutSeeds, rewardRule, lossNormalisation } = options;
  return methodSwitches(options.set, {
    ...(whenNoneInformative && { whenNoneInformative }),
    ...(firstStepLearningRate && { firstStepLearningRate }),
    ...(rolloutSeeds && { rolloutSeeds }),
    ...(rewardRule && { rewardRule }),
    ...(lossNormalisation && { lossNormalisation }),
  });
}
