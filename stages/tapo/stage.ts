/** Triplet-augmented policy optimisation: the second stage of Fine-R1. The algorithm is src/engine/recipes/tapo.ts. */
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { writeJsonLines } from '../../src/artifacts/json-lines.ts';
import { needsNegative, type TapoTerms } from '../../src/engine/loss/tapo.ts';
import { createGenerator } from '../../src/engine/models/qwen2_5_vl/generator.ts';
import { ImageCache, withPixelBudget } from '../../src/engine/models/qwen2_5_vl/image-cache.ts';
import { openTrainingModel } from '../../src/engine/models/qwen2_5_vl/open-training-model.ts';
import type { Processor } from '../../src/engine/models/qwen2_5_vl/processor.ts';
import { AdamW } from '../../src/engine/optim/adamw.ts';
import { type TapoReport, type TapoTask, trainTapo } from '../../src/engine/recipes/tapo.ts';
import { groupNormalisedAdvantages } from '../../src/methods/advantages.ts';
import { DEFAULT_GROUP_FILTER, informativeGroups } from '../../src/methods/group-filter.ts';
import { listSwitches, type MethodSwitches, methodSwitches } from '../../src/methods/presets.ts';
import { rewardHacks, scoreResponse } from '../../src/methods/reward.ts';
import { sourceOfLease } from '../../src/pool/session-source.ts';
import { loadStageSchema } from '../../src/run/load-schema.ts';
import { defineStage, type OptionProblem, type StageContext } from '../../src/run/stage-api.ts';
import type { TapoOptions } from './options.ts';
import { questionOf, readTriplets, type TripletQuestion } from './questions.ts';

type Report = TapoReport<TripletQuestion>;

/** Folder of the state that keeps samples step by step. */
const SAMPLE_FOLDER = 'rollouts';

export const tapoStage = defineStage<TapoOptions>({
  kind: 'tapo',
  summary: 'Trains a model by reinforcement on triplets of images.',
  version: 2,
  schema: loadStageSchema(import.meta.url),
  outputs: {
    model: { type: 'checkpoint', description: 'the trained model with the tokenizer of the first' },
    samples: { type: 'rollouts', description: 'answers of the first groups of every step with their rewards' },
  },
  metrics: ['reward', 'accuracy', 'format', 'firstReward', 'keptShare', 'skippedSteps'],
  cosmeticOptions: ['saveEvery'],
  resources: () => ({ device: true }),
  validate,
  async run(context) {
    const { options, state, seed, signal } = context;
    const source = sourceOfLease(context.lease);
    const { model, processor, save } = await openTrainingModel(source, options.model.path, {
      kind: 'full',
      towers: options.trainable,
    });
    const optimizer = await AdamW.create(source, model.store, { weightDecay: options.weightDecay });
    const generator = createGenerator(source, model.config, model.weights, {
      maxBatch: options.generationBatch,
    });
    try {
      const { info, rows } = await readTriplets(options.data.path);
      const switches = switchesOf(options);
      const loss = lossTerms(options);
      const cache = new ImageCache(withPixelBudget(processor.images, options));
      const text = (tokenIds: readonly number[]) => processor.decode(tokenIds, { skipSpecialTokens: true });
      const task: TapoTask<TripletQuestion> = {
        size: rows.length,
        question: (index) =>
          questionOf(rows[index]!, options.data.path, options, processor, cache, needsNegative(loss)),
        reward: ({ row }, tokenIds) => scoreResponse(text(tokenIds), row.label, options.reward.formatWeight),
        advantages: (rewards) => groupNormalisedAdvantages(rewards, new Array<number>(rewards.length).fill(0)),
        informative: (accuracies) =>
          informativeGroups(accuracies, {
            ...DEFAULT_GROUP_FILTER,
            whenNoneInformative: switches.whenNoneInformative,
          }),
      };
      describeRun(context, switches, loss, model.store.flat.length, rows.length);
      let note = '';
      const showProgress = (done: number, activity = '') =>
        context.progress({
          done,
          total: options.steps,
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
          totalSteps: options.steps,
          groupsPerStep: options.groupsPerStep,
          rollouts: options.rollouts,
          ...(options.groupSize !== undefined && { groupSize: options.groupSize }),
          sampling: {
            maxNewTokens: options.maxNewTokens,
            temperature: options.temperature,
            topP: options.topP,
            topK: 0,
            repetitionPenalty: 1,
            stopTokenIds: processor.tokens.eos,
            bannedTokenIds: bannedTokens(processor),
          },
          sharedNoise: switches.rolloutSeeds === 'shared',
          maxDraws: options.maxDraws,
          updatesPerStep: options.updatesPerStep,
          loss,
          lossNormalisation: switches.lossNormalisation,
          learningRate: options.learningRate,
          schedule: { kind: options.schedule, warmupSteps: options.warmupSteps },
          zeroFirstStep: switches.firstStepLearningRate === 'zero' && options.warmupSteps === 0,
          maxGradNorm: options.maxGradNorm,
          microBatchTokens: options.microBatchTokens,
          saveEvery: options.saveEvery,
          stateDir: state,
          signal,
        },
        {
          onResume: (steps) => context.log(`continuing after ${steps} of ${options.steps} steps`),
          onActivity: (step, activity) => showProgress(step - 1, activity),
          onWarning: (message) => context.warn(message),
          async onStep(report) {
            note = `reward ${report.score.overall.toFixed(3)}  accuracy ${report.score.accuracy.toFixed(3)}`;
            if (report.keptGroups < options.groupsPerStep / 2) {
              context.warn(
                `step ${report.step} learns from ${report.keptGroups} of ${options.groupsPerStep} groups: in the other ` +
                  `${report.drawn.length - report.keptGroups} all answers were right or all wrong (accuracy ` +
                  `${report.score.accuracy.toFixed(2)}; near 0, fine-tune longer; near 1, there is little left to win)`,
              );
            }
            showProgress(report.step);
            context.metric(report.step, curveValues(report, text, info.classes));
            await keepSamples(context, report, text);
          },
        },
      );
      await save(context.outputs['model']!, options.dtype);
      await gatherSamples(context);
      const recent = (of: (score: Report['score']) => number) => ({
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
        },
      };
    } finally {
      await generator.release();
      await model.release();
      await optimizer.release();
    }
  },
});

function validate(options: TapoOptions): OptionProblem[] {
  const problems: OptionProblem[] = [];
  const { views, groupSize, minPixels, maxPixels } = options;
  if (!Object.values(options.trainable).includes(true)) {
    problems.push({ pointer: '/trainable', message: 'nothing is trained: vision, projector and text are all false' });
  }
  if (groupSize !== undefined && views.positive !== 'none') {
    problems.push({
      pointer: '/groupSize',
      message: 'groupSize only counts where views.positive is none',
      hint: 'with a positive image a group has 2 * rollouts answers',
    });
  }
  if (minPixels !== undefined && maxPixels !== undefined && minPixels > maxPixels) {
    problems.push({ pointer: '/minPixels', message: `minPixels is above maxPixels ${maxPixels}` });
  }
  return problems;
}

function switchesOf(options: TapoOptions): MethodSwitches {
  const { whenNoneInformative, firstStepLearningRate, rolloutSeeds, lossNormalisation } = options;
  return methodSwitches(options.set, {
    ...(whenNoneInformative && { whenNoneInformative }),
    ...(firstStepLearningRate && { firstStepLearningRate }),
    ...(rolloutSeeds && { rolloutSeeds }),
    ...(lossNormalisation && { lossNormalisation }),
  });
}

/** Terms with coefficient 0 or null are absent, and so are those on a negative image that takes no part. */
function lossTerms(options: TapoOptions): TapoTerms {
  const { clipLow, clipHigh, dualClip, negativeKl, negativeEntropy, ownEntropy } = options;
  const hasNegative = options.views.negative !== 'none';
  return {
    clipLow,
    clipHigh,
    dualClip,
    ...(hasNegative && negativeKl && { negativeKl: { coefficient: negativeKl, estimator: 'k3' as const } }),
    ...(hasNegative && negativeEntropy && { negativeEntropy: { coefficient: negativeEntropy } }),
    ...(ownEntropy && { ownEntropy: { coefficient: ownEntropy } }),
  };
}

/** Tokens of images, and ids beyond the tokenizer's that a padded vocabulary has. */
function bannedTokens({ tokens, config, vocabSize }: Processor): number[] {
  const padding = Array.from({ length: Math.max(0, config.text.vocabSize - vocabSize) }, (_, i) => vocabSize + i);
  return [...tokens.vision, ...padding];
}

const USED_SWITCHES: ReadonlySet<keyof MethodSwitches> = new Set<keyof MethodSwitches>([
  'whenNoneInformative',
  'firstStepLearningRate',
  'rolloutSeeds',
  'lossNormalisation',
]);

function describeRun(
  context: StageContext<TapoOptions>,
  switches: MethodSwitches,
  loss: TapoTerms,
  weights: number,
  rows: number,
): void {
  const { options } = context;
  const perGroup =
    options.views.positive === 'none' ? (options.groupSize ?? 2 * options.rollouts) : 2 * options.rollouts;
  context.log(
    `${weights} weights to train, ${rows} triplets, ${options.steps} steps of ${options.groupsPerStep} groups of ${perGroup} answers`,
  );
  const terms = (['negativeKl', 'negativeEntropy', 'ownEntropy'] as const).flatMap((name) => {
    const term = loss[name];
    return term ? [`${name} ${term.coefficient}`] : [];
  });
  context.log(`terms beside the policy's: ${terms.join(', ') || 'none'}`);
  const used = listSwitches(switches).filter(({ name }) => USED_SWITCHES.has(name));
  context.log(`switches: ${used.map(({ name, value }) => `${name} ${value}`).join(', ')}`);
}

function curveValues(
  report: Report,
  text: (tokenIds: readonly number[]) => string,
  classes: readonly string[],
): Record<string, number> {
  const rollouts = report.drawn.flatMap(({ rollouts }) => rollouts);
  const generated = rollouts.reduce((sum, { tokenIds }) => sum + tokenIds.length, 0);
  const cut = rollouts.filter(({ finishReason }) => finishReason === 'length').length;
  const several = rollouts.filter(({ tokenIds }) => rewardHacks(text(tokenIds), classes).labelsInAnswer > 1).length;
  return {
    reward: report.score.overall,
    accuracy: report.score.accuracy,
    format: report.score.format,
    responseTokens: generated / rollouts.length,
    cutShare: cut / rollouts.length,
    severalLabelsShare: several / rollouts.length,
    drawnGroups: report.drawn.length,
    keptGroups: report.keptGroups,
    learningRate: report.learningRate,
    generatedTokensPerSecond: (1000 * generated) / report.generationMs,
    ...(report.update && {
      loss: report.update.loss,
      gradNorm: report.update.gradNorm,
      trainedTokensPerSecond: (1000 * report.update.tokens) / report.trainingMs,
      ...report.update.terms,
    }),
  };
}

/** Joins the samples of all steps into one file of the output. */
async function gatherSamples(context: StageContext<TapoOptions>): Promise<void> {
  const folder = path.join(context.state, SAMPLE_FOLDER);
  const names = existsSync(folder) ? (await readdir(folder)).sort() : [];
  const parts = await Promise.all(names.map((name) => readFile(path.join(folder, name), 'utf8')));
  await writeFile(path.join(context.outputs['samples']!, 'rollouts.jsonl'), parts.join(''));
}

/** Writes answers of the step's first groups; a step that is repeated after a crash writes the same again. */
async function keepSamples(
  context: StageContext<TapoOptions>,
  report: Report,
  text: (tokenIds: readonly number[]) => string,
): Promise<void> {
  const groups = report.drawn.slice(0, context.options.sampleGroups);
  if (groups.length === 0) return;
  const lines = groups.flatMap(({ question: { row }, rollouts }) =>
    rollouts.map(({ view, tokenIds, score, finishReason }) => ({
      step: report.step,
      row: row.id,
      view,
      image: row[view],
      label: row.label,
      output: text(tokenIds),
      finishReason,
      ...score,
    })),
  );
  const folder = path.join(context.state, SAMPLE_FOLDER);
  await mkdir(folder, { recursive: true });
  await writeJsonLines(path.join(folder, `step-${String(report.step).padStart(6, '0')}.jsonl`), lines);
}
