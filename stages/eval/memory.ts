/** What an evaluation of a checkpoint takes of the host's memory. */
import { pixelBytes } from '../../src/engine/models/qwen2_5_vl/batch-size.ts';
import type { MemoryPlan } from '../../src/engine/models/qwen2_5_vl/estimate.ts';
import { type ImageSettings, imageGrid } from '../../src/engine/models/qwen2_5_vl/image-processor.ts';
import type { ModelFacts } from '../../src/engine/models/qwen2_5_vl/memory-peaks.ts';
import type { Processor } from '../../src/engine/models/qwen2_5_vl/processor.ts';
import type { MemoryKnobs } from '../../src/engine/models/qwen2_5_vl/require-memory.ts';
import { type Asked, longestPrompt } from '../memory.ts';
import { MOST_IMAGE_BYTES } from './batch-size.ts';

export interface AnsweringSize {
  readonly batchSize: number;
  readonly maxNewTokens: number;
}

export const EVAL_KNOBS: MemoryKnobs = {
  frozenWeights: 'store the model in bfloat16',
  images: 'lower batchSize or maxPixels',
  batch: 'lower batchSize or maxPixels',
  activations: 'lower batchSize or maxPixels',
  cache: 'lower batchSize, maxNewTokens or maxPixels',
};

export async function answeringPlan(
  model: ModelFacts,
  questions: readonly Asked[],
  { batchSize, maxNewTokens }: AnsweringSize,
  processor: Processor,
  settings: ImageSettings,
): Promise<MemoryPlan> {
  const prompt = await longestPrompt(questions, processor, ({ width, height }) => imageGrid(height, width, settings));
  const imageBytes = pixelBytes(model.config, prompt.images);
  const prompts = Math.min(batchSize, questions.length, Math.ceil(MOST_IMAGE_BYTES / imageBytes));
  return {
    config: model.config,
    execution: model.execution,
    weights: model.weights,
    generation: { prompt, prompts, samplesPerPrompt: 1, maxNewTokens, limits: { maxBatch: batchSize } },
    imageBytes: prompts * imageBytes,
  };
}
