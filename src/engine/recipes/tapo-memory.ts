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
  /** H */
  readonly heads: number;
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

type MicroBatch = BatchSize & { readonly accumulates: boolean };

/** In how many steps lengths of answers are tried. */
const LENGTHS = 8;
/** Numbers kept for a token in a layer, in widths of the layer, beside those of its pairs with other tokens. */
const WIDTHS_PER_TOKEN = 24;

/**
 * The largest micro-batch of so many prompts with so many answers each. More of the answers fit into a row when they are shorter
 * than the limit, so that rows, and with them attention, may be larger.
 */
function largestBatch(size: TapoSize, prompts: number, answers: number): MicroBatch {
  const lengths = Array.from({ length: LENGTHS }, (_, i) => Math.ceil((size.answerTokens * (i + 1)) / LENGTHS));
  return lengths
    .map((answerTokens) => largestOfLength({ ...size, answerTokens }, prompts, answers))
    .reduce((a, b) => (weightOf(b, size) > weightOf(a, size) ? b : a));
}

/** What a batch takes in a layer, up to a factor. */
function weightOf({ rows, tokens }: BatchSize, { heads, hiddenSize }: TapoSize): number {
  return rows * tokens * (heads * tokens + WIDTHS_PER_TOKEN * hiddenSize);
}

function largestOfLength(size: TapoSize, prompts: number, answers: number): MicroBatch {
  const { prompt, answerTokens, microBatchTokens, hiddenSize } = size;
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
  return { ...sizes.reduce((a, b) => (weightOf(b, size) > weightOf(a, size) ? b : a)), accumulates: parts.length > 1 };
}
