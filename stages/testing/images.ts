/** Small image files whose colour is fixed by a text, so that files of different names differ in content. */
import { createHash } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import sharp from 'sharp';

/** Writes an image of one colour; its format follows from the name. */
export async function writeImage(file: string, colourOf = file, width = 8, height = 8): Promise<void> {
  const [r, g, b] = createHash('sha256').update(colourOf).digest() as unknown as [number, number, number];
  const image = sharp({ create: { width, height, channels: 3, background: { r, g, b } } });
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, await (file.endsWith('.png') ? image.png() : image.jpeg({ quality: 100 })).toBuffer());
}
