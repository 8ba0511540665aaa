/**
 * Positives and negatives in the size of their anchors. Trainers that place the tokens of all three by the anchor's grid fail, or
 * silently misplace them, when the sizes differ.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { Sharp } from 'sharp';
import { linkImages } from '../../src/artifacts/rows.ts';
import type { TripletRow } from '../../src/artifacts/types.ts';
import { loadImage } from '../../src/engine/image/load-image.ts';
import { loadSharp } from '../../src/engine/image/load-sharp.ts';
import type { StageContext } from '../../src/run/stage-api.ts';

/**
 * Writes the images of all rows: anchors as they are, the others as PNG where they have to be resized.
 *
 * @returns the rows with the names of what was written
 * @throws IMAGE_UNREADABLE
 */
export async function withAnchorSizes(
  rows: readonly TripletRow[],
  from: string,
  to: string,
  { signal, progress }: Pick<StageContext, 'signal' | 'progress'>,
): Promise<TripletRow[]> {
  const sharp = await loadSharp();
  await mkdir(path.join(to, 'images'), { recursive: true });
  const asTheyAre: string[] = [];
  const made: TripletRow[] = [];
  for (const [index, row] of rows.entries()) {
    signal.throwIfAborted();
    const { width, height } = await loadImage(path.join(from, row.anchor));
    const fitted = async (view: 'positive' | 'negative'): Promise<string> => {
      const image = await loadImage(path.join(from, row[view]));
      if (image.width === width && image.height === height) {
        asTheyAre.push(row[view]);
        return row[view];
      }
      const name = `images/${view}-${String(index).padStart(6, '0')}.png`;
      const raw = { width: image.width, height: image.height, channels: 3 } as const;
      const resized: Sharp = sharp(image.data, { raw }).resize(width, height, { fit: 'fill', kernel: 'cubic' });
      await writeFile(path.join(to, name), await resized.png().toBuffer());
      return name;
    };
    asTheyAre.push(row.anchor);
    made.push({ ...row, positive: await fitted('positive'), negative: await fitted('negative') });
    if ((index + 1) % 25 === 0) progress({ done: index + 1, total: rows.length, unit: 'triplets' });
  }
  await linkImages(from, to, asTheyAre, signal);
  return made;
}
