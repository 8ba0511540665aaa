/** What TAPO takes of the host's memory: sampling, log-probabilities and updates. */
import path from 'node:path';
import type { TripletRow } from '../../src/artifacts/types.ts';
import { needsNegative } from '../../src/engine/loss/tapo.ts';
import { pixelBytes } from '../../src/engine/models/qwen2_5_vl/batch-size.ts';
import type { MemoryPlan } from '../../src/engine/models/qwen2_5_vl/estimate.ts';
import { IMAGE_CACHE_BYTES } from '../../src/engine/models/qwen2_5_vl/image-cache.ts';
import type { ModelFacts } from '../../src/engine/models/qwen2_5_vl/memory-peaks.ts';
import type { Training } from '../../src/engine/models/qwen2_5_vl/open-training-model.ts';
import { plannedModel } from '../../src/engine/models/qwen2_5_vl/planned-weights.ts';
import type { MemoryKnobs } from '../../src/engine/models/qwen2_5_vl/require-memory.ts';
import { tapoBatches } from '../../src/engine/recipes/tapo-memory.ts';
import { longestPrompt } from '../memory.ts';
import { groupingOf } from './grouping.ts';
import type { TapoOptions } from './options.ts';
import { promptText, type QuestionMaker } from './questions.ts';
import type { ResolvedSettings } from './settings.ts';

export const TAPO_KNOBS: MemoryKnobs = {
  frozenWeights: 'store the model in bfloat16',
  otherWeights: 'leave out referenceKl',
  trainedWeights: 'train an adapter (adapter: { kind: lora }) or one of lower rank, or fewer parts under trainable',
  images: 'lower maxPixels',
  batch: 'lower microBatchTokens, generationBatch or maxPixels',
  activations: 'lower microBatchTokens, generationBatch or maxPixels',
  cache: 'lower generationBatch, rollouts or maxNewTokens',
};

/** A reference policy has nothing to train. */
export const FROZEN: Training = { kind: 'full', towers: { vision: false, projector: false, text: false } };

export async function tapoPlan(
  { config, execution, weights }: ModelFacts,
  modelFolder: string,
  rows: readonly TripletRow[],
  options: TapoOptions,
  settings: ResolvedSettings,
  maker: Pick<QuestionMaker, 'folder' | 'prompt' | 'processor' | 'images' | 'totalSteps'>,
): Promise<MemoryPlan> {
  const { views, loss } = settings;
  const { groupsPerStep, answersPerGroup, updatesPerStep } = groupingOf(options, settings);
  const { totalSteps } = maker;
  const hasNegative = needsNegative(loss);
  const isOther = (view: string) => view === 'same-class' || view === 'other-class';
  // As many rows as all steps can draw.
  const drawn = Math.min(rows.length, totalSteps * groupsPerStep * options.maxDraws);
  const questions = rows.flatMap((row) =>
    [
      row.anchor,
      ...(isOther(views.positive) ? [row.positive] : []),
      ...(isOther(views.negative) ? [row.negative] : []),
    ].map((image) => ({ text: promptText(row, maker.prompt), image: path.join(maker.folder, image) })),
  );
  const images = new Set(questions.map(({ image }) => image)).size;
  const prompt = await longestPrompt(questions, maker.processor, (size) => maker.images.gridOf(size));
  const hasPositive = views.positive !== 'none';
  const hasReference = loss.referenceKl !== undefined;
  const batches = tapoBatches({
    prompt,
    groupsPerStep,
    ...(settings.questionsPerDraw !== null && { questionsPerDraw: settings.questionsPerDraw }),
    updatesPerStep,
    views: hasPositive ? 2 : 1,
    answersPerView: hasPositive ? answersPerGroup / 2 : answersPerGroup,
    onAnchor: settings.positiveConditioning === 'anchor',
    hasNegative,
    hasReference,
    answerTokens: settings.maxNewTokens,
    microBatchTokens: options.microBatchTokens,
    generationBatch: options.generationBatch,
    hiddenSize: config.text.hiddenSize,
    heads: config.text.numAttentionHeads,
  });
  return {
    config,
    execution,
    weights,
    ...batches,
    imageBytes: Math.min(IMAGE_CACHE_BYTES, (images * drawn * pixelBytes(config, prompt.images)) / rows.length),
    otherWeightBytes: hasReference ? plannedModel(modelFolder, FROZEN).weights.frozenBytes : 0,
  };
}
