/**
 * Supervised training on target tokens: the loop of pre-training and of SFT.
 *
 * Every update takes the micro-batches of its step, sums their gradients, clips the global norm and applies AdamW. Data
 * are a function of the step, so training that resumes at step k sees exactly what an uninterrupted one sees.
 */
import { Fr1Error } from '../../errors/fr1-error.ts';
import { WEIGHTED_NLL } from '../loss/weighted-nll.ts';
import type { Batch } from '../models/qwen2_5_vl/batch.ts';
import type { TrainingModel } from '../models/qwen2_5_vl/training-model.ts';
import type { AdamW } from '../optim/adamw.ts';
import { type Schedule, scheduleFactor } from '../optim/schedule.ts';
import { loadTrainState, saveTrainState } from '../optim/train-state.ts';
import { float32 } from '../tensor.ts';

export interface SupervisedOptions {
  /** Decides what dropout drops. */
  readonly seed: number;
  readonly totalSteps: number;
  readonly learningRate: number;
  readonly schedule: Schedule;
  /** Gradients are scaled to at most this global norm. */
  readonly maxGradNorm: number;
  /**
   * `micro`: mean over the target tokens of each micro-batch, micro-batches equal (LLaMA-Factory for models with a
   * processor); `step`: mean over all target tokens of the update.
   */
  readonly lossNormalisation: 'micro' | 'step';
  /** Updates between saved states. */
  readonly saveEvery: number;
  /** Folder of the saved state. */
  readonly stateDir: string;
  readonly signal?: AbortSignal;
  /** Called once when a saved state is found, with the updates that it holds. */
  onResume?(steps: number): void;
  onStep(report: StepReport): void | Promise<void>;
}

/** A micro-batch that is built when it is needed, so that only two of an update are in memory at once. */
export interface PlannedBatch {
  /** Target tokens of the batch that `build` gives. */
  readonly targetTokens: number;
  build(): Promise<Batch>;
}

export interface StepReport {
  /** From 1. */
  readonly step: number;
  /** Mean cross-entropy of the update's target tokens in nats. */
  readonly loss: number;
  /** Exponential mean of the losses, the same after a resume. */
  readonly smoothedLoss: number;
  readonly gradNorm: number;
  readonly learningRate: number;
  readonly targetTokens: number;
  /** Tokens that went through the model, padding included. */
  readonly tokens: number;
}

/** Share of the newest loss in the exponential mean. */
const SMOOTHING = 0.1;

/**
 * @param dataOf micro-batches of an update, from 0
 * @throws TRAINING_DIVERGED when the gradient is not finite
 */
export async function trainSupervised(
  model: TrainingModel,
  optimizer: AdamW,
  dataOf: (step: number) => Promise<readonly (Batch | PlannedBatch)[]>,
  options: SupervisedOptions,
): Promise<void> {
  const { totalSteps, stateDir, signal } = options;
  const saved = await loadTrainState(stateDir, model.store, optimizer);
  const gradients = await model.gradientSum();
  const first = Number(saved?.['step'] ?? 0);
  if (saved) options.onResume?.(first);
  let average = Number(saved?.['average'] ?? 0);
  let next = first < totalSteps ? dataOf(first) : null;
  for (let step = first; step < totalSteps; step++) {
    signal?.throwIfAborted();
    const planned = await next!;
    // The next step's data are prepared while this step computes.
    next = step + 1 < totalSteps ? dataOf(step + 1) : null;
    next?.catch(() => {});
    const targetTokens = planned.reduce((sum, batch) => sum + targetsOf(batch), 0);
    let loss = 0;
    let tokens = 0;
    let hasImages = false;
    let i = 0;
    gradients.clear();
    for await (const batch of builtAhead(planned)) {
      const count = batch.targets.length;
      const weight = options.lossNormalisation === 'micro' ? 1 / (count * planned.length) : 1 / targetTokens;
      const weights = { weight: float32([count], new Float32Array(count).fill(weight)) };
      const noise = [options.seed, 'dropout', step, i++];
      const result = await gradients.add((into) =>
        model.lossAndGradients(batch, WEIGHTED_NLL, weights, into, { noise, signal }),
      );
      loss += result.loss;
      tokens += batch.shape[0] * batch.shape[1];
      hasImages ||= batch.visionKind !== null;
    }
    const learningRate = options.learningRate * scheduleFactor(options.schedule, step, totalSteps);
    const gradNorm = await gradients.clip(options.maxGradNorm);
    if (!Number.isFinite(gradNorm)) {
      throw new Fr1Error('TRAINING_DIVERGED', `the gradient of update ${step + 1} is ${gradNorm}, its loss ${loss}`, {
        hint: 'lower learningRate, or raise warmupSteps',
      });
    }
    await optimizer.step(gradients.value, learningRate, { hasImages, signal });
    average += SMOOTHING * (loss - average);
    // The mean starts at 0, so its weights do not yet sum to 1.
    const smoothedLoss = average / (1 - (1 - SMOOTHING) ** (step + 1));
    await options.onStep({ step: step + 1, loss, smoothedLoss, gradNorm, learningRate, targetTokens, tokens });
    if ((step + 1) % options.saveEvery === 0 && step + 1 < totalSteps) {
      await saveTrainState(stateDir, model.store, optimizer, { step: step + 1, average });
    }
  }
}

function targetsOf(batch: Batch | PlannedBatch): number {
  return 'build' in batch ? batch.targetTokens : batch.targets.length;
}

/** Builds each batch while the one before it is computed. */
async function* builtAhead(planned: readonly (Batch | PlannedBatch)[]): AsyncGenerator<Batch> {
  const build = async (batch: Batch | PlannedBatch) => ('build' in batch ? batch.build() : batch);
  let next = planned[0] && build(planned[0]);
  for (let i = 0; next; i++) {
    const batch: Batch = await next;
    next = planned[i + 1] && build(planned[i + 1]!);
    next?.catch(() => {});
    yield batch;
  }
}
