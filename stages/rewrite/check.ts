/** Looks at the labelled images, and at the teacher's model or key, before anything is written. */
import path from 'node:path';
import { readImageData } from '../../src/artifacts/rows.ts';
import { requireTextModel } from '../../src/engine/embedding/missing-files.ts';
import { loadImage } from '../../src/engine/image/load-image.ts';
import { checkModel, weightsText } from '../../src/engine/models/qwen2_5_vl/check-model.ts';
import { checkRows } from '../../src/run/check-rows.ts';
import type { CheckContext } from '../../src/run/stage-api.ts';
import { checkMemory } from '../memory-check.ts';
import { checkKey } from './api-key.ts';
import { TEACHER_KNOBS, teacherPlan } from './memory.ts';
import type { RewriteOptions } from './options.ts';

export async function checkRewrite(context: CheckContext<RewriteOptions>): Promise<void> {
  const { data, teacher, conceptSelection } = context.options;
  const { model, hub } = conceptSelection ?? {};
  if (hub !== undefined) context.found(`concepts by ${hub}, which the first use fetches from the Hugging Face hub`);
  if (model) requireTextModel(model.path, 'Xenova/e5-large-v2');
  if (teacher.checkpoint) {
    const { weights, processor } = await checkModel(teacher.checkpoint.path);
    context.found(`a teacher of ${weightsText(weights)}`);
    if (data) {
      const plan = await teacherPlan(
        teacher.checkpoint.path,
        data.path,
        await readImageData(data.path),
        context.options,
        processor,
      );
      checkMemory(context, 'this teacher', plan, TEACHER_KNOBS);
    }
  }
  if (teacher.kind === 'openai') {
    const name = checkKey(teacher);
    context.found(name === undefined ? 'an endpoint without a key' : `an endpoint, its key in ${name}`);
  }
  if (!data) return;
  const { rows } = await readImageData(data.path);
  const isRight = await checkRows(context, rows, 'images', async ({ image }) => {
    await loadImage(path.join(data.path, image));
  });
  if (isRight) context.found(`${rows.length} images`);
}
