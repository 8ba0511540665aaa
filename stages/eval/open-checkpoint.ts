/** A Qwen2.5-VL checkpoint as what an evaluation asks. */
import { loadImage } from '../../src/engine/image/load-image.ts';
import { withPixelBudget } from '../../src/engine/models/qwen2_5_vl/image-cache.ts';
import { processImage } from '../../src/engine/models/qwen2_5_vl/image-processor.ts';
import { openVisionLanguageModel } from '../../src/engine/models/qwen2_5_vl/open-model.ts';
import { aboutImage } from '../../src/engine/models/qwen2_5_vl/processor.ts';
import type { OpenModel } from './definition.ts';
import { answeringPlan } from './memory.ts';

export const openCheckpoint: OpenModel = async (source, checkpointFolder, { pixels, batchSize }) => {
  const model = await openVisionLanguageModel(source, checkpointFolder, { maxBatch: batchSize });
  const { processor, generator, release } = model;
  const settings = withPixelBudget(processor.images, pixels);
  return {
    generator,
    stopTokenIds: processor.tokens.eos,
    bannedTokenIds: processor.bannedTokens,
    sampling: processor.sampling,
    ignoredSampling: processor.ignoredSampling,
    async encode(prompt, image) {
      const processed = processImage(await loadImage(image), settings);
      const messages = [{ role: 'user' as const, content: aboutImage(prompt) }];
      const { inputIds } = processor.encodeChat(messages, [processed], { addGenerationPrompt: true });
      return { inputIds, images: [processed] };
    },
    ...(!source.memory && {
      memoryPlan: (questions, size) => answeringPlan(model, questions, size, processor, settings),
    }),
    decode: (tokenIds) => processor.decode(tokenIds, { skipSpecialTokens: true }),
    [Symbol.asyncDispose]: release,
  };
};
