/** Options that make parts of a fine-tuning's memory smaller. */
import type { MemoryKnobs } from '../../src/engine/models/qwen2_5_vl/require-memory.ts';

export const SFT_KNOBS: MemoryKnobs = {
  frozenWeights: 'store the model in bfloat16',
  trainedWeights: 'train an adapter (adapter: { kind: lora }) or one of lower rank, or fewer parts under trainable',
  images: 'lower maxPixels',
  batch: 'lower microBatchSize or maxPixels',
  activations: 'lower microBatchSize or maxPixels',
};
