/** Looks at the model and at every chat before anything is trained. */
import path from 'node:path';
import { readSftData } from '../../src/artifacts/rows.ts';
import { trainingOf } from '../../src/engine/adapters/choice.ts';
import { pixelBytes } from '../../src/engine/models/qwen2_5_vl/batch-size.ts';
import { checkModel, weightsText } from '../../src/engine/models/qwen2_5_vl/check-model.ts';
import { IMAGE_CACHE_BYTES, ImageCache } from '../../src/engine/models/qwen2_5_vl/image-cache.ts';
import { plannedModel } from '../../src/engine/models/qwen2_5_vl/planned-weights.ts';
import { Fr1Error } from '../../src/errors/fr1-error.ts';
import { checkRows } from '../../src/run/check-rows.ts';
import type { CheckContext } from '../../src/run/stage-api.ts';
import { checkAdapter } from '../adapter-check.ts';
import { checkMemory, checkTrainingMemory, trainingDisk } from '../memory-check.ts';
import { type Example, encodeExample, largestBatch } from './examples.ts';
import { SFT_KNOBS } from './memory-knobs.ts';
import type { SftOptions } from './options.ts';
import { pixelBudget, resolveSettings } from './settings.ts';

/** Images are looked at once, so none need to be kept. */
const CACHE_BYTES = 16 * 2 ** 20;

export async function checkSft(context: CheckContext<SftOptions>): Promise<void> {
  const { model, data, adapter, trainable } = context.options;
  const settings = resolveSettings(context.options as SftOptions);
  const checked = model && (await checkModel(model.path));
  let hasRoom = true;
  if (checked) {
    context.found(weightsText(checked.weights));
    checkAdapter(context.options);
    hasRoom = checkTrainingMemory(context.options, context);
    context.needsDisk(trainingDisk(context.options, checked.weights));
  }
  if (!data) return;
  const rows = await readSftData(data.path);
  if (rows.length === 0) {
    throw new Fr1Error('DATA_INSUFFICIENT', `${path.join(data.path, 'data.json')} holds no chats`);
  }
  if (!checked) return;
  const { processor } = checked;
  const images = new ImageCache(processor.images, { budget: pixelBudget(settings), maxBytes: CACHE_BYTES });
  const examples: Example[] = [];
  const isRight = await checkRows(context, rows, 'chats', async (row, index) => {
    try {
      examples.push(await encodeExample(row, data.path, processor, images, settings.maxTokens));
    } catch (cause) {
      if (!(cause instanceof Fr1Error)) throw cause;
      const place = `${path.join(data.path, 'data.json')}: chat ${index}`;
      throw new Fr1Error(cause.code, `${place}: ${cause.message}`, { hint: cause.hint, cause });
    }
  });
  if (!isRight) return;
  const training = await largestBatch(examples, settings, images);
  context.found(`${rows.length} chats of at most ${training.tokens} tokens`);
  if (!hasRoom) return;
  const planned = plannedModel(model.path, trainingOf(adapter, trainable, 0));
  const pixels = pixelBytes(planned.config, training.images) / training.rows;
  const imageBytes = Math.min(IMAGE_CACHE_BYTES, rows.length * pixels);
  checkMemory(context, 'this training', { ...planned, training, imageBytes }, SFT_KNOBS);
}
