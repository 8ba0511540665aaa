/** What a local teacher takes of the host's memory. */
import path from 'node:path';
import type { Dataset } from '../../src/artifacts/rows.ts';
import type { ImageRow } from '../../src/artifacts/types.ts';
import { pixelBytes } from '../../src/engine/models/qwen2_5_vl/batch-size.ts';
import type { MemoryPlan } from '../../src/engine/models/qwen2_5_vl/estimate.ts';
import { imageGrid } from '../../src/engine/models/qwen2_5_vl/image-processor.ts';
import { plannedModel } from '../../src/engine/models/qwen2_5_vl/planned-weights.ts';
import type { Processor } from '../../src/engine/models/qwen2_5_vl/processor.ts';
import type { MemoryKnobs } from '../../src/engine/models/qwen2_5_vl/require-memory.ts';
import { longestPrompt } from '../memory.ts';
import { DEFAULTS, TEACHER_DEFAULTS } from './defaults.ts';
import { TEACHER_BATCH } from './native-teacher.ts';
import type { RewriteOptions } from './options.ts';
import { thoughtPrompt } from './teacher-prompts.ts';

const SMALLER_IMAGES = 'lower max_pixels in preprocessor_config.json of the teacher';

export const TEACHER_KNOBS: MemoryKnobs = {
  frozenWeights: 'store the teacher in bfloat16, or ask an endpoint (teacher: { kind: openai })',
  images: SMALLER_IMAGES,
  batch: SMALLER_IMAGES,
  activations: SMALLER_IMAGES,
  cache: 'lower teacher.maxNewTokens',
};

/** A noted feature before any caption is written: a line of a caption has about as many words. */
const FEATURE = 'a word '.repeat(6);

export async function teacherPlan(
  modelFolder: string,
  dataFolder: string,
  { info, rows }: Dataset<ImageRow>,
  options: Pick<RewriteOptions, 'concepts' | 'candidates'> & {
    readonly teacher: Pick<RewriteOptions['teacher'], 'maxNewTokens'>;
  },
  processor: Processor,
): Promise<MemoryPlan> {
  const { concepts, candidates } = { ...DEFAULTS, ...options };
  const { maxNewTokens } = { ...TEACHER_DEFAULTS, ...options.teacher };
  const { superCategory } = info;
  const noted = Array.from({ length: concepts }, () => FEATURE);
  const questions = rows.map((row) => ({
    text: thoughtPrompt({ superCategory, ...row, concepts: noted, candidates }),
    image: path.join(dataFolder, row.image),
  }));
  const prompt = await longestPrompt(questions, processor, ({ width, height }) =>
    imageGrid(height, width, processor.images),
  );
  const model = plannedModel(modelFolder, null);
  const prompts = Math.min(TEACHER_BATCH, rows.length);
  return {
    ...model,
    generation: { prompt, prompts, samplesPerPrompt: 1, maxNewTokens },
    imageBytes: prompts * pixelBytes(model.config, prompt.images),
  };
}
