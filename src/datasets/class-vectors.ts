/** What the images of a class look like to a model: the mean direction of a few of them. */
import { loadImage } from '../engine/image/load-image.ts';
import type { ImageEmbedder } from '../engine/models/qwen2_5_vl/image-embedder.ts';

/** Images per class that are looked at. */
export const IMAGES_PER_CLASS = 4;

/** An image file, or the bytes of one; null where there is nothing to see. */
export type Picture = () => Promise<string | Uint8Array | null>;

export interface VectorOptions {
  readonly signal: AbortSignal;
  onClass(done: number, total: number): void;
}

/**
 * By class the mean of the unit vectors of its first {@link IMAGES_PER_CLASS} pictures.
 *
 * @throws IMAGE_UNREADABLE
 */
export async function classVectors(
  pictures: ReadonlyMap<string, readonly Picture[]>,
  embedder: ImageEmbedder,
  { signal, onClass }: VectorOptions,
): Promise<Map<string, Float32Array>> {
  const vectors = new Map<string, Float32Array>();
  for (const [label, group] of pictures) {
    let sum: Float32Array | undefined;
    for (const picture of group.slice(0, IMAGES_PER_CLASS)) {
      const seen = await picture();
      if (seen === null) continue;
      const vector = await embedder.embed(await loadImage(seen), signal);
      const length = Math.hypot(...vector) || 1;
      sum ??= new Float32Array(vector.length);
      for (let i = 0; i < vector.length; i++) sum[i]! += vector[i]! / length;
    }
    if (sum !== undefined) vectors.set(label, sum);
    onClass(vectors.size, pictures.size);
  }
  return vectors;
}
