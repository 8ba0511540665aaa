/** Reinforcement from the first question to the saved model; the algorithm is src/engine/recipes/tapo.ts. */
import { trainingOf } from '../../src/engine/adapters/choice.ts';
import { PLAIN_SAMPLING } from '../../src/engine/generate/plain-sampling.ts';
import { createGenerator } from '../../src/engine/models/qwen2_5_vl/generator.ts';
import { ImageCache } from '../../src/engine/models/qwen2_5_vl/image-cache.ts';
import { openTrainingModel } from '../../src/engine/models/qwen2_5_vl/open-training-model.ts';
import { AdamW } from '../../src/engine/optim/adamw.ts';
import { type Score, type TapoTask, trainTapo } from '../../src/engine/recipes/tapo.ts';
import { informativeGroups } from '../../src/methods/group-filter.ts';
import { scoreResponse } from '../../src/methods/reward.ts';
import { keptTokens } from '../../src/methods/tapo-loss.ts';
import { sourceOfLease } from '../../src/pool/session-source.ts';
import type { StageContext, StageResult } from '../../src/run/stage-api.ts';
import { checkAdapter } from '../adapter-check.ts';
import { requireStageMemory } from '../memory.ts';
import { groupingOf } from './grouping.ts';
import { curveValues, describeRun, gatherSamples, keepSamples } from './log.ts';
import { FROZEN, TAPO_KNOBS, tapoPlan } from './memory.ts';
import type { TapoOptions } from './options.ts';
import { questionOf, readTriplets, requireLayouts, type TripletQuestion } from './questions.ts';
import { openRewardFunction } from './reward-function.ts';
import { advantagesOf, filterOf, pixelBudget, resolveSettings, stepsFor } from './settings.ts';
import { switchesOf } from './switches.ts';

export async function runTapo(context: StageContext<TapoOptions>): Promise<StageResult> {
  const { options, state, seed, signal } = context;
  const settings = resolveSettings(options);
  const { loss, temperature } = settings;
  const { info, rows } = await readTriplets(options.data.path);
  const own = options.reward.function && (await openRewardFunction(options.reward.function.path, rows[0]!));
  checkAdapter(options);
  const source = sourceOfLease(context.lease);
  const { model, processor, save } = await openTrainingModel(
    source,
    options.model.path,
    trainingOf(options.adapter, options.trainable, seed),
    { temperature },
  );
  const optimizer = await AdamW.create(source, model.store, { weightDecay: settings.weightDecay });
  const generator = createGenerator(source, model.config, model.weights, {
    maxBatch: options.generationBatch,
  });
  const reference = loss.referenceKl
    ? await openTrainingModel(source, options.model.path, FROZEN, { temperature })
    : null;
  try {
    const switches = switchesOf(options);
    const totalSteps = stepsFor(settings, rows.length);
    const maker = {
      folder: options.data.path,
      prompt: options.prompt,
      settings,
      viewLayout: switches.viewLayout,
      processor,
      images: new ImageCache(processor.images, { budget: pixelBudget(settings) }),
      seed,
      totalSteps,
    };
    await requireLayouts(rows, maker, signal);
    if (!source.memory) {
      const plan = await tapoPlan(model, options.model.path, rows, options, settings, maker);
      requireStageMemory(context, 'this training', plan, TAPO_KNOBS);
    }
    const text = (tokenIds: readonly number[]) => processor.decode(tokenIds, { skipSpecialTokens: true });
    const task: TapoTask<TripletQuestion> = {
      size: rows.length,
      question: (index, draw) => questionOf(rows[index]!, draw, maker),
      reward: ({ row }, tokenIds) =>
        own
          ? own({ response: text(tokenIds), label: row.label, question: row.question })
          : scoreResponse(text(tokenIds), row.label, options.reward.formatWeight, switches.rewardRule),
      advantages: (groups) => advantagesOf(groups, settings.advantages),
      informative: (accuracies) => informativeGroups(accuracies, filterOf(settings, switches.whenNoneInformative)),
      negativeKlMask: (own, negative) =>
        keptTokens(own, negative, { estimator: loss.negativeKl?.estimator ?? 'k3', topShare: settings.keptShare }),
    };
    const grouping = groupingOf(options, settings);
    describeRun(context, settings, grouping, { weights: model.store.flat.length, rows: rows.length, totalSteps });
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
        groupsPerStep: grouping.groupsPerStep,
        rollouts: settings.rollouts,
        groupSize: grouping.answersPerGroup,
        sampling: {
          ...PLAIN_SAMPLING,
          maxNewTokens: settings.maxNewTokens,
          temperature,
          topP: settings.topP,
          topK: options.topK,
          stopTokenIds: processor.tokens.eos,
          bannedTokenIds: processor.bannedTokens,
        },
        sharedNoise: switches.rolloutSeeds === 'shared',
        ...(settings.questionsPerDraw !== null && { questionsPerDraw: settings.questionsPerDraw }),
        maxDraws: options.maxDraws,
        updatesPerStep: grouping.updatesPerStep,
        passes: options.passes,
        loss,
        lossNormalisation: switches.lossNormalisation,
        answersPerMean: options.answersPerMean,
        lossAveraging: settings.lossAveraging,
        positiveConditioning: settings.positiveConditioning,
        viewLayout: switches.viewLayout,
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
          if (report.keptGroups < grouping.groupsPerStep / 2) {
            context.warn(
              `step ${report.step} learns from ${report.keptGroups} of ${grouping.groupsPerStep} groups: in the other ` +
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
}
