/** Fine-tuning from the first chat to the saved model; the loop itself is src/engine/recipes/supervised.ts. */
import { trainingOf } from '../../src/engine/adapters/choice.ts';
import { ImageCache } from '../../src/engine/models/qwen2_5_vl/image-cache.ts';
import { openTrainingModel } from '../../src/engine/models/qwen2_5_vl/open-training-model.ts';
import type { Processor } from '../../src/engine/models/qwen2_5_vl/processor.ts';
import { AdamW } from '../../src/engine/optim/adamw.ts';
import { type PlannedBatch, trainSupervised } from '../../src/engine/recipes/supervised.ts';
import { sourceOfLease } from '../../src/pool/session-source.ts';
import type { StageContext, StageResult } from '../../src/run/stage-api.ts';
import { checkAdapter } from '../adapter-check.ts';
import { imageSizes } from '../image-sizes.ts';
import { requireStageMemory } from '../memory.ts';
import { type Example, largestBatch, microBatchesOf, planBatch, readExamples, stepsPerEpoch } from './examples.ts';
import { SFT_KNOBS } from './memory-knobs.ts';
import type { SftOptions } from './options.ts';
import { pixelBudget, type ResolvedSettings, resolveSettings } from './settings.ts';
import { BestModel, validationLoss } from './validation.ts';

export async function runSft(context: StageContext<SftOptions>): Promise<StageResult> {
  const { options, state, seed, signal } = context;
  const settings = resolveSettings(options);
  checkAdapter(options);
  const source = sourceOfLease(context.lease);
  const { model, processor, save } = await openTrainingModel(
    source,
    options.model.path,
    trainingOf(options.adapter, options.trainable, seed),
  );
  const optimizer = await AdamW.create(source, model.store, { weightDecay: settings.weightDecay });
  try {
    const cache = new ImageCache(processor.images, { budget: pixelBudget(settings) });
    const examples = await readExamples(options.data.path, processor, cache, {
      maxTokens: settings.maxTokens,
      signal,
      onRead: (done, total) => context.progress({ done, total, unit: 'chats', note: 'reading' }),
    });
    warnOfForm(context, examples);
    const training = await largestBatch(examples, settings, cache);
    if (!source.memory) {
      const { config, execution, weights } = model;
      const imageBytes = cache.bytes;
      requireStageMemory(context, 'this training', { config, execution, weights, training, imageBytes }, SFT_KNOBS);
    }
    const totalSteps = stepsFor(settings, examples.length);
    const order = {
      seed,
      batchSize: settings.batchSize,
      microBatchSize: settings.microBatchSize,
      sortByLength: settings.lossNormalisation === 'step',
    };
    const dataOf = async (step: number) =>
      microBatchesOf(step, examples, order).map((chosen) => planBatch(chosen, processor, cache));
    context.log(
      `${model.store.flat.length} weights to train, ${examples.length} chats, ${totalSteps} updates of ${settings.batchSize}`,
    );
    context.log(describeSettings(settings));
    const held = await heldOut(context, processor, settings);
    const best = await BestModel.open(state);
    let measured = Number.NaN;
    let last = { loss: Number.NaN, smoothedLoss: Number.NaN };
    await trainSupervised(model, optimizer, dataOf, {
      seed,
      totalSteps,
      learningRate: settings.learningRate,
      schedule: { kind: settings.schedule, warmupSteps: settings.warmupSteps },
      maxGradNorm: settings.maxGradNorm,
      lossNormalisation: settings.lossNormalisation,
      saveEvery: options.saveEvery,
      stateDir: state,
      signal,
      onResume: (steps) => context.log(`continuing after ${steps} of ${totalSteps} updates`),
      onStep: async (report) => {
        last = report;
        const { step, loss, gradNorm, learningRate, targetTokens } = report;
        const note = `loss ${report.smoothedLoss.toFixed(3)}`;
        context.progress({ done: step, total: totalSteps, unit: 'updates', note });
        const isMeasured = held !== null && (step % options.validateEvery === 0 || step === totalSteps);
        if (isMeasured) {
          measured = await validationLoss(held, (batch, stop) => model.logProbs(batch, stop), signal);
          if (options.keep === 'best') {
            await best.offer({ step, loss: measured }, (folder) => save(folder, options.dtype));
          }
        }
        context.metric(step, {
          loss,
          gradNorm,
          learningRate,
          targetTokens,
          ...(isMeasured && { validationLoss: measured }),
        });
      },
    });
    if (options.keep === 'best') {
      context.log(
        `keeping the weights of update ${best.best!.step}, loss ${best.best!.loss.toFixed(4)} on held-out chats`,
      );
      await best.copyTo(context.outputs['model']!);
    } else await save(context.outputs['model']!, options.dtype);
    return {
      metrics: {
        loss: { value: last.smoothedLoss },
        finalLoss: { value: last.loss },
        steps: { value: totalSteps },
        ...(held && { validationLoss: { value: best.best?.loss ?? measured } }),
      },
    };
  } finally {
    await model.release();
    await optimizer.release();
  }
}

function describeSettings(settings: ResolvedSettings): string {
  const { learningRate, schedule, warmupSteps, weightDecay, maxGradNorm, microBatchSize } = settings;
  return (
    `learning rate ${learningRate} ${schedule} after ${warmupSteps} updates, weight decay ${weightDecay}, gradient norm ${maxGradNorm}; ` +
    `${microBatchSize} chats at a time, mean per ${settings.lossNormalisation}; ${imageSizes(settings)}`
  );
}

/** Micro-batches of the validation chats, in the order of the file; null without validation. */
async function heldOut(
  context: StageContext<SftOptions>,
  processor: Processor,
  settings: ResolvedSettings,
): Promise<PlannedBatch[] | null> {
  const { options, signal } = context;
  if (options.validation === undefined) return null;
  const cache = new ImageCache(processor.images, { budget: pixelBudget(settings) });
  const { maxTokens, microBatchSize } = settings;
  const chats = await readExamples(options.validation.path, processor, cache, { maxTokens, signal, onRead: () => {} });
  return Array.from({ length: Math.ceil(chats.length / microBatchSize) }, (_, i) =>
    planBatch(chats.slice(i * microBatchSize, (i + 1) * microBatchSize), processor, cache),
  );
}

function stepsFor({ length, batchSize }: ResolvedSettings, chats: number): number {
  if (length === null) throw new TypeError('validate() lets no such options through');
  return 'steps' in length ? length.steps : length.epochs * stepsPerEpoch(chats, batchSize);
}

/** Tells of answers from which nothing learns the form that reward and evaluation look for, and of thoughts that lead nowhere. */
function warnOfForm(context: StageContext<SftOptions>, examples: readonly Example[]): void {
  const total = examples.length;
  const without = chatsWhere(examples, ({ hasForm }) => !hasForm);
  if (without) {
    context.warn(
      `${without.count} of ${total} answers are not of the form <think>...</think><answer>...</answer> (${without.chats})`,
    );
  }
  const unnamed = chatsWhere(examples, ({ namesAnswer }) => !namesAnswer);
  if (unnamed) context.warn(`${unnamed.count} of ${total} thoughts never name their answer (${unnamed.chats})`);
}

/** How many examples are so and which the first are; null for none. */
function chatsWhere(examples: readonly Example[], isSo: (example: Example) => boolean) {
  const found = examples.flatMap((example, index) => (isSo(example) ? [index] : []));
  if (found.length === 0) return null;
  return { count: found.length, chats: `chats ${found.slice(0, 5).join(', ')}${found.length > 5 ? ', ...' : ''}` };
}
