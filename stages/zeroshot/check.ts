/** Looks at the files of the model and at every test image. */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { readEvalData } from '../../src/artifacts/eval-data.ts';
import { loadImage } from '../../src/engine/image/load-image.ts';
import { Fr1Error } from '../../src/errors/fr1-error.ts';
import { checkRows } from '../../src/run/check-rows.ts';
import type { CheckContext } from '../../src/run/stage-api.ts';
import type { ZeroshotOptions } from './options.ts';

const MODEL_FILES = [
  'config.json',
  'preprocessor_config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'onnx/vision_model.onnx',
  'onnx/text_model.onnx',
] as const;

export async function checkZeroshot(context: CheckContext<ZeroshotOptions>): Promise<void> {
  const { model, data } = context.options;
  const missing = model ? MODEL_FILES.filter((file) => !existsSync(path.join(model.path, file))) : [];
  if (model && missing.length > 0) {
    const message = `${model.path} is no CLIP or SigLIP model of transformers.js: ${missing.join(', ')} missing`;
    const hint = 'Xenova/clip-vit-base-patch32 on the Hugging Face hub shows the layout';
    context.problem(new Fr1Error('CHECKPOINT_UNREADABLE', message, { hint }));
  }
  for (const [split, artifact] of Object.entries(data)) {
    if (!artifact) continue;
    const { rows } = await readEvalData(artifact.path);
    const isRight = await checkRows(context, rows, `items of ${split}`, async ({ image }) => {
      await loadImage(path.join(artifact.path, image));
    });
    if (isRight) context.found(`${rows.length} items of ${split}`);
  }
}
