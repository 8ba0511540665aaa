import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { ImageCache } from '../../src/engine/models/qwen2_5_vl/image-cache.ts';
import { openProcessor } from '../../src/engine/models/qwen2_5_vl/processor.ts';
import { temporaryFolder } from '../../test/helpers/temporary-folder.ts';
import { writeImage } from '../testing/images.ts';
import { questionOf } from './questions.ts';

const MODEL = fileURLToPath(new URL('../../models/fr1-tiny', import.meta.url));

/** What the released trainer asks: the text cut at the mark, the image in its place, and no white space lost but at both ends. */
it.each([
  ['<image> Based on this image, which bird?', '<|vision_end|> Based on this image, which bird?\n\nYou first think'],
  [' <image>Which bird? ', '<|vision_end|>Which bird?\n\nYou first think'],
  ['Which bird is <image>?', '<|vision_end|>?\n\nYou first think'],
  ['Which bird?', '<|vision_end|>Which bird?\n\nYou first think'],
])('asks %j with the image where its mark is', async (question, asked) => {
  const folder = await temporaryFolder();
  await writeImage(path.join(folder, 'a.png'), 'a', 56, 56);
  const processor = await openProcessor(MODEL);
  const row = { id: 'r', anchor: 'a.png', positive: 'a.png', negative: 'a.png', question, label: 'Robin' };
  const { anchor } = await questionOf(
    row,
    { step: 0, place: 0 },
    {
      folder,
      prompt: 'fine-r1',
      settings: {
        views: { positive: 'none', negative: 'none' },
        positiveConditioning: 'own',
        maskedShare: 0.6,
        noise: { strength: 500, midpoint: 0.5, steepness: 30 },
        loss: { clipLow: 0.2, clipHigh: 0.28, dualClip: 3 },
      },
      viewLayout: 'own',
      processor,
      images: new ImageCache(processor.images),
      seed: 1,
      totalSteps: 1,
    },
  );
  const text = processor.decode(anchor.inputIds, { skipSpecialTokens: false });
  expect(text).toContain(asked);
  expect(text).toContain(
    question.startsWith('Which bird is') ? 'Which bird is <|vision_start|>' : 'user\n<|vision_start|>',
  );
});
