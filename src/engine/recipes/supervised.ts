/**
 * Supervised training on target tokens: the loop of pre-training and of SFT.
 *
 * Every update takes the micro-batches of its step, sums their gradients, clips the global norm and applies AdamW. Data
 * are a function of the step, so training that resumes at step k sees exactly what an uninterrupted one sees.
 */
import { WEIGHTED_NLL } from '../loss/weighted-nll.ts';
import type { Batch } from '../models/qwen2_5_vl/batch.ts';
import type { TrainingModel } from '../models/qwen2_5_vl/training-model.ts';
import type { AdamW } from '../optim/adamw.ts';
import { accumulate, clipGlobalNorm } from '../optim/gradients.ts';
import { type Schedule, scheduleFactor } from '../optim/schedule.ts';
import { loadTrainState, saveTrainState } from '../optim/train-state.ts';
import { float32 } from '../tensor.ts';

export interface SupervisedOptions {
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
  onStep(report: StepReport): void;
}

export interface StepReport {
  /** From 1. */
  readonly step: number;
  /** Mean cross-entropy of the update's target tokens in nats. */
  readonly loss: number;
  readonly gradNorm: number;
  readonly learningRate: number;
  readonly targetTokens: number;
  /** Tokens that went through the model, padding included. */
  readonly tokens: number;
}

/** @param dataOf micro-batches of an update, from 0 */
export async function trainSupervised(
  model: TrainingModel,
  optimizer: AdamW,
  dataOf: (step: number) => Promise<readonly Batch[]>,
  options: SupervisedOptions,
): Promise<void> {
  const { totalSteps, stateDir, signal } = options;
  const saved = await loadTrainState(stateDir, model.store, optimizer);
  const gradients = model.store.buffer();
  const part = model.store.buffer();
  const first = Number(saved?.['step'] ?? 0);
  let next = first < totalSteps ? dataOf(first) : null;
  for (let step = first; step < totalSteps; step++) {
    signal?.throwIfAborted();
    const batches = await next!;
    // The next step's data are prepared while this step computes.
    next = step + 1 < totalSteps ? dataOf(step + 1) : null;
    next?.catch(() => {});
    const targetTokens = batches.reduce((sum, batch) => sum + batch.targets.length, 0);
    let loss = 0;
    for (const [i, batch] of batches.entries()) {
      const count = batch.targets.length;
      const weight = options.lossNormalisation === 'micro' ? 1 / (count * batches.length) : 1 / targetTokens;
      const weights = { weight: float32([count], new Float32Array(count).fill(weight)) };
      const into = i === 0 ? gradients : part;
      const result = await model.lossAndGradients(batch, WEIGHTED_NLL, weights, into, signal);
      if (i > 0) accumulate(gradients, part);
      loss += result.loss;
    }
    const learningRate = options.learningRate * scheduleFactor(options.schedule, step, totalSteps);
    const gradNorm = clipGlobalNorm(gradients, options.maxGradNorm);
    await optimizer.step(gradients, learningRate, signal);
    options.onStep({
      step: step + 1,
      loss,
      gradNorm,
      learningRate,
      targetTokens,
      tokens: batches.reduce((sum, batch) => sum + batch.shape[0] * batch.shape[1], 0),
    });
    if ((step + 1) % options.saveEvery === 0 && step + 1 < totalSteps) {
      await saveTrainState(stateDir, model.store, optimizer, { step: step + 1 });
    }
  }
}
