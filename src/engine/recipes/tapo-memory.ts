/** The largest batches of TAPO, worked out from its settings as trainTapo() makes them, for an estimate of memory. */
import type { BatchSize } from '../models/qwen2_5_vl/batch-size.ts';
import type { MemoryPlan } from '../models/qwen2_5_vl/estimate.ts';
import type { GenerationSize } from '../models/qwen2_5_vl/memory-peaks.ts';
import { microBatches, packRows, tokensOf } from './prompt-rows.ts';

export interface TapoSize {
  /** The longest prompt. */
  readonly prompt: GenerationSize['prompt'];
  readonly groupsPerStep: number;
  /** Those of a step where it is not given. */
  readonly questionsPerDraw?: number;
  readonly updatesPerStep: number;
  /** Prompts of a group that are answered: one, or two with a positive image. */
  readonly views: 1 | 2;
  readonly answersPerView: number;
  /** Whether all answers of a group are trained on the anchor. */
  readonly onAnchor: boolean;
  /** Whether all answers are read under a negative image. */
  readonly hasNegative: boolean;
  readonly hasReference: boolean;
  /** Tokens of an answer; the limit, where they are not known. */
  readonly answerTokens: number;
  readonly microBatchTokens: number;
  readonly generationBatch: number;
  /** C */
  readonly hiddenSize: number;
}

export function tapoBatches(size: TapoSize): Pick<MemoryPlan, 'training' | 'logProbs' | 'generation'> {
  const { groupsPerStep, updatesPerStep, views, answersPerView, hasNegative, hasReference } = size;
  const groups = Math.ceil(groupsPerStep / updatesPerStep);
  const whole = views * answersPerView;
  const trainedOn = size.onAnchor ? { prompts: 1, answers: whole } : { prompts: views, answers: answersPerView };
  const training = largestBatch(size, groups * trainedOn.prompts, trainedOn.answers);
  const read = [
    ...(hasNegative ? [largestBatch(size, groupsPerStep, whole)] : []),
    ...(hasReference || updatesPerStep > 1
      ? [largestBatch(size, groupsPerStep * trainedOn.prompts, trainedOn.answers)]
      : []),
  ];
  const logProbs = read.sort((a, b) => b.rows * b.tokens - a.rows * a.tokens)[0];
  return {
    training,
    ...(logProbs && { logProbs }),
    generation: {
      prompt: size.prompt,
      prompts: Math.min(groupsPerStep, size.questionsPerDraw ?? groupsPerStep) * views,
      samplesPerPrompt: answersPerView,
      maxNewTokens: size.answerTokens,
      limits: { maxBatch: size.generationBatch },
    },
  };
}

/** The largest micro-batch of so many prompts with so many answers each. */
function largestBatch(
  { prompt, answerTokens, microBatchTokens, hiddenSize }: TapoSize,
  prompts: number,
  answers: number,
): BatchSize & { readonly accumulates: boolean } {
  const rows = Array.from({ length: prompts }, () =>
    packRows(
      { inputIds: { length: prompt.tokens } },
      Array.from({ length: answers }, () => ({ tokenIds: { length: answerTokens } })),
      { maxTokens: microBatchTokens, width: hiddenSize },
    ),
  ).flat();
  const parts = microBatches(rows, microBatchTokens);
  const sizes = parts.map((part): BatchSize => {
    const shown = new Set(part.map((row) => row.prompt)).size;
    return {
      rows: part.length,
      tokens: part.reduce((most, { length }) => Math.max(most, length), 0),
      targets: part.reduce((sum, { trajectories }) => sum + tokensOf(trajectories), 0),
      images: Array.from({ length: shown }, () => prompt.images).flat(),
    };
  });
  const largest = sizes.reduce((a, b) => (b.rows * b.tokens > a.rows * a.tokens ? b : a));
  return { ...largest, accumulates: parts.length > 1 };
}
