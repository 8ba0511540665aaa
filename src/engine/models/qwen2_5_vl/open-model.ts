/** A model folder ready to answer: config, tokenizer, weights in memory and a generator over them. */
import type { Generator } from '../../generate/types.ts';
import type { SessionSource } from '../../program.ts';
import { openCheckpoint } from '../../weights/checkpoint.ts';
import { MemoryWeights, ModelWeights } from '../../weights/model-weights.ts';
import type { Qwen25VLConfig } from './config.ts';
import { createGenerator, type GeneratorOptions } from './generator.ts';
import { openProcessor, type Processor } from './processor.ts';

export interface VisionLanguageModel {
  readonly config: Qwen25VLConfig;
  readonly processor: Processor;
  readonly weights: ModelWeights;
  readonly generator: Generator;
  release(): Promise<void>;
}

/**
 * Opens a model folder for generation; weights are widened to float32.
 *
 * @throws CHECKPOINT_UNREADABLE, CHECKPOINT_MISMATCH, MODEL_CONFIG_INVALID, TOKENIZER_INVALID
 */
export async function openVisionLanguageModel(
  source: SessionSource,
  checkpointDir: string,
  options: GeneratorOptions = {},
): Promise<VisionLanguageModel> {
  const checkpoint = openCheckpoint(checkpointDir);
  const processor = await openProcessor(checkpointDir);
  const weights = ModelWeights.frozen(
    new MemoryWeights(checkpoint.parameters.map(({ name }) => [name, checkpoint.readFloat32(name)])),
  );
  const generator = createGenerator(source, checkpoint.config, weights, options);
  return { config: checkpoint.config, processor, weights, generator, release: () => generator.release() };
}
