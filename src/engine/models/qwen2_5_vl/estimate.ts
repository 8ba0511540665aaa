/**
 * Peak memory of a process that trains or generates, worked out before anything runs: weights, what the optimiser keeps,
 * images, activations, key/value cache. Host memory only.
 */
import { updateBytes } from '../../optim/adamw.ts';
import { sizeOf } from '../../tensor.ts';
import type { BatchSize } from './batch-size.ts';
import {
  ARENA_SHARE,
  type GenerationSize,
  generationPeak,
  logProbPeak,
  type ModelFacts,
  type Peak,
  trainingPeak,
} from './memory-peaks.ts';

export interface MemoryPlan extends ModelFacts {
  /** The largest micro-batch. */
  readonly training?: BatchSize & {
    /** Whether an update sums several micro-batches. */ readonly accumulates: boolean;
  };
  /** The largest batch of which only log-probabilities are taken. */
  readonly logProbs?: BatchSize;
  readonly generation?: GenerationSize;
  /** Decoded images that are kept. */
  readonly imageBytes?: number;
  /** Weights of a second model. */
  readonly otherWeightBytes?: number;
}

/** Bytes by what they are for; `total` is their sum. */
export interface MemoryEstimate {
  /** Node, onnxruntime, image library, tokenizer. */
  readonly process: number;
  readonly frozenWeights: number;
  /** Of a second model. */
  readonly otherWeights: number;
  /** Trained weights, their gradients and moments. */
  readonly trainedWeights: number;
  readonly images: number;
  /** What a batch feeds and gives, and the activations that are kept between pieces. */
  readonly batch: number;
  /** Values inside the graphs at their worst moment. */
  readonly activations: number;
  readonly cache: number;
  readonly total: number;
}

const PROCESS_BYTES = 190e6;
/** What the process takes on when it computes: code and sessions of onnxruntime, a larger heap of V8. */
export const COMPUTING_BYTES = 32e6;
/** Of the tokenizer, for each token that it knows. */
const BYTES_PER_TOKEN = 1200;
const FLOAT = 4;

export function estimateMemory(plan: MemoryPlan): MemoryEstimate {
  const { config, weights, training, logProbs, generation } = plan;
  const generated = generation && generationPeak(plan, generation);
  const peaks: Peak[] = [
    ...(training ? [trainingPeak(plan, training)] : []),
    ...(logProbs ? [logProbPeak(plan, logProbs)] : []),
    ...(generated ? [generated] : []),
  ];
  const trained = weights.trained.parameters.reduce((sum, { shape }) => sum + sizeOf(shape), 0);
  const update = training ? ARENA_SHARE * updateBytes(trained) : 0;
  // Weight, gradient, two moments, and the gradient of a part of the batch.
  const copies = training ? (training.accumulates ? 5 : 4) : 1;
  const parts = {
    process: PROCESS_BYTES + COMPUTING_BYTES + BYTES_PER_TOKEN * config.text.vocabSize,
    frozenWeights: weights.frozenBytes,
    otherWeights: plan.otherWeightBytes ?? 0,
    trainedWeights: copies * FLOAT * trained,
    images: plan.imageBytes ?? 0,
    // They take turns; what their sessions keep adds up.
    batch: most(peaks.map(({ arrays }) => arrays)),
    activations: most(peaks.map(({ passing }) => passing)) + peaks.reduce((sum, { kept }) => sum + kept, update),
    cache: generated?.cache ?? 0,
  };
  return { ...parts, total: Object.values(parts).reduce((sum, bytes) => sum + bytes, 0) };
}

function most(values: readonly number[]): number {
  return values.reduce((a, b) => Math.max(a, b), 0);
}
