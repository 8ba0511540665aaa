/** Looks at the model and at every chat before anything is trained. */
import path from 'node:path';
import { readSftData } from '../../src/artifacts/rows.ts';
import { checkModel, weightsText } from '../../src/engine/models/qwen2_5_vl/check-model.ts';
import { ImageCache } from '../../src/engine/models/qwen2_5_vl/image-cache.ts';
import { Fr1Error } from '../../src/errors/fr1-error.ts';
import { checkRows } from '../../src/run/check-rows.ts';
import type { CheckContext } from '../../src/run/stage-api.ts';
import { checkTrainingMemory, trainingDisk } from '../memory-check.ts';
import { encodeExample, pixelBudget } from './examples.ts';
import type { SftOptions } from './options.ts';

/** Images are looked at once, so none need to be kept. */
const CACHE_BYTES = 16 * 2 ** 20;

export async function checkSft(context: CheckContext<SftOptions>): Promise<void> {
  const { model, data, maxTokens } = context.options;
  const checked = model && (await checkModel(model.path));
  if (checked) {
    context.found(weightsText(checked.weights));
    checkTrainingMemory(context.options, context);
    context.needsDisk(trainingDisk(context.options, checked.weights));
  }
  if (!data) return;
  const rows = await readSftData(data.path);
  if (rows.length === 0) {
    throw new Fr1Error('DATA_INSUFFICIENT', `${path.join(data.path, 'data.json')} holds no chats`);
  }
  if (!checked) return;
  const { processor } = checked;
  const images = new ImageCache(processor.images, { budget: pixelBudget(context.options), maxBytes: CACHE_BYTES });
  let longest = 0;
  const isRight = await checkRows(context, rows, 'chats', async (row, index) => {
    try {
      const { prefix, answer } = await encodeExample(row, data.path, processor, images, maxTokens);
      longest = Math.max(longest, prefix.length + answer.length);
    } catch (cause) {
      if (!(cause instanceof Fr1Error)) throw cause;
      const place = `${path.join(data.path, 'data.json')}: chat ${index}`;
      throw new Fr1Error(cause.code, `${place}: ${cause.message}`, { hint: cause.hint, cause });
    }
  });
  if (isRight) context.found(`${rows.length} chats of at most ${longest} tokens`);
}
