/** Similarity of classes by what their images look like to a checkpoint's vision tower. */
import { type ClassSimilarity, vectorSimilarity } from '../../src/datasets/class-similarity.ts';
import { classVectors, IMAGES_PER_CLASS } from '../../src/datasets/class-vectors.ts';
import type { ImageLooker } from '../../src/datasets/image-looker.ts';
import type { SourceImage } from '../../src/datasets/source.ts';
import { openImageEmbedder } from '../../src/engine/models/qwen2_5_vl/image-embedder.ts';
import { RandomStream } from '../../src/engine/random.ts';
import { sourceOfLease } from '../../src/pool/session-source.ts';
import type { StageContext } from '../../src/run/stage-api.ts';

/** Looks at a few training images of each class, or at test images of classes without any; damaged ones count for nothing. */
export async function pictureSimilarity(
  context: Pick<StageContext, 'lease' | 'signal' | 'progress'>,
  images: ReadonlyMap<string, readonly SourceImage[]>,
  checkpoint: string,
  looker: ImageLooker,
  seed: number,
): Promise<ClassSimilarity> {
  const pictures = new Map(
    [...images].map(([label, group]) => {
      const training = group.filter(({ split }) => split !== 'test');
      const order = new RandomStream('dataset', 'vectors', seed, label).shuffled(
        training.length > 0 ? training : group,
      );
      const chosen = order.slice(0, IMAGES_PER_CLASS);
      return [label, chosen.map((image) => async () => (await looker.look(image))?.bytes ?? null)];
    }),
  );
  const embedder = await openImageEmbedder(sourceOfLease(context.lease), checkpoint);
  try {
    const onClass = (done: number, total: number) =>
      context.progress({ done, total, unit: 'classes', note: 'looking' });
    return vectorSimilarity(await classVectors(pictures, embedder, { signal: context.signal, onClass }));
  } finally {
    await embedder.release();
  }
}
