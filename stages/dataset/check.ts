/** Reads the lists of a dataset and looks for its image files before anything is copied. */
import { byLabel } from '../../src/datasets/choose-images.ts';
import { Fr1Error } from '../../src/errors/fr1-error.ts';
import { checkRows } from '../../src/run/check-rows.ts';
import type { CheckContext } from '../../src/run/stage-api.ts';
import { readListedChats } from './chats.ts';
import { onlyCategory, readEvalItems } from './eval-files.ts';
import { placeImages } from './image-places.ts';
import { planFromImages } from './labelled-images.ts';
import type { DatasetOptions } from './options.ts';
import { imagesOf, readListedTriplets } from './triplet-files.ts';

export async function checkDataset(context: CheckContext<DatasetOptions>): Promise<void> {
  // Only a model and test items may still be to be made by other stages; neither is looked at here.
  const options = context.options as DatasetOptions;
  const { source, root } = options;
  if (source === 'procedural-birds' || !root) return;
  const looking = { options, seed: options.seed ?? 0, warn: (message: string) => context.found(message) };
  switch (source) {
    case 'sharegpt': {
      const { images: chats } = placeImages(looking, await readListedChats(root.path));
      return context.found(`${chats.length} chats`);
    }
    case 'easyr1': {
      const triplets = await readListedTriplets(root.path, looking.warn);
      const there = new Set(placeImages(looking, imagesOf(triplets)).images.map(({ id }) => id));
      const whole = triplets.filter(({ views }) => Object.values(views).every(({ id }) => there.has(id)));
      const isRight = await checkRows(context, whole, 'triplets', async ({ views }) => {
        for (const { content } of Object.values(views)) if (content.kind === 'bytes') await content.read();
      });
      if (isRight) context.found(`${whole.length} triplets`);
      return;
    }
    case 'fine-r1-eval': {
      const category = options.superCategory ?? onlyCategory(root.path);
      const [seen, unseen] = [
        await readEvalItems(root.path, category, 'seen'),
        await readEvalItems(root.path, category, 'unseen'),
      ];
      const { images } = placeImages(looking, [...seen, ...unseen]);
      const idsOfSeen = new Set(seen.map(({ id }) => id));
      const seenCount = images.filter(({ id }) => idsOfSeen.has(id)).length;
      return context.found(`${seenCount} + ${images.length - seenCount} test items`);
    }
    default: {
      const { images, split, tests, settings } = await planFromImages(looking);
      const training = byLabel(images.filter((image) => image.split === 'train'));
      const shots = settings.sftShots + settings.rlShots;
      const short = split.seen.filter((label) => (training.get(label)?.length ?? 0) < shots);
      if (short.length > 0) {
        const message = `${short.length} seen classes have fewer than ${shots} training images, e.g. "${short[0]}"`;
        context.problem(new Fr1Error('DATA_INSUFFICIENT', message, { hint: 'lower sftShots or rlShots' }));
      }
      context.found(
        `${split.seen.length} seen and ${split.unseen.length} unseen classes, ${images.length} images, ` +
          `${tests.seen.length} + ${tests.unseen.length} of them tests`,
      );
    }
  }
}
