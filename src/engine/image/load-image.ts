/**
 * Image files to 8-bit RGB, as Pillow's `exif_transpose` and `convert('RGB')` give it: EXIF orientation is applied, alpha
 * is dropped (not composited), embedded colour profiles are not applied, CMYK is converted by ink coverage, and only the
 * first frame of an animation is read. Departure: 16-bit grey is scaled to 8 bits, where Pillow clips it to white.
 */
import { readFile } from 'node:fs/promises';
import type { Sharp } from 'sharp';
import { Fr1Error } from '../../errors/fr1-error.ts';

/** Interleaved rows: `data[(y * width + x) * 3 + channel]`. */
export interface RgbImage {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8Array;
}

/** Most pixels of an image, against decompression bombs: decoding the worst takes less than 500 MB. Pillow allows 179 M. */
export const MAX_IMAGE_PIXELS = 40_000_000;
/** Inks are converted, and drawings made, in memory, so half as many pixels fit. */
const MAX_PIXELS_IN_MEMORY = MAX_IMAGE_PIXELS / 2;

/**
 * Decodes a file, or its bytes.
 *
 * @param name what errors call the image. @default the path
 * @throws IMAGE_UNREADABLE naming the image, when it is missing, damaged, cut off, too large or of an unknown format
 */
export function loadImage(source: string | Uint8Array, name?: string): Promise<RgbImage> {
  return readImage(source, name, decode);
}

/**
 * The size that decoding would give, from the header of a file alone.
 *
 * @throws IMAGE_UNREADABLE naming the image, when it is missing or of an unknown format
 */
export function imageSize(file: string): Promise<Pick<RgbImage, 'width' | 'height'>> {
  return readImage(file, undefined, async (bytes) => (await (await openImage(bytes)).metadata()).autoOrient);
}

async function readImage<T>(
  source: string | Uint8Array,
  name: string | undefined,
  read: (bytes: Uint8Array) => Promise<T>,
): Promise<T> {
  const label = name ?? (typeof source === 'string' ? source : `image of ${source.length} bytes`);
  try {
    // NOTE: sharp is given bytes, not the path: it caches decoded files by path, and a changed file would go unnoticed.
    return await read(typeof source === 'string' ? await readFile(source) : source);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message.split('\n')[0] : String(cause);
    throw new Fr1Error('IMAGE_UNREADABLE', `${label} cannot be read as an image: ${reason}`, {
      hint: 'replace the file or remove its row; PNG, JPEG, WebP, GIF, TIFF, AVIF and SVG are read, up to 40 million pixels',
      cause,
    });
  }
}

async function decode(bytes: Uint8Array): Promise<RgbImage> {
  const image = await openImage(bytes);
  const { space, format, width, height } = await image.metadata();
  const most = space === 'cmyk' || format === 'svg' ? MAX_PIXELS_IN_MEMORY : MAX_IMAGE_PIXELS;
  if (width * height > most) throw new Error(`${width} x ${height} pixels are more than ${most.toLocaleString('en')}`);
  if (space === 'cmyk')
    return fromInks(await rawPixels(image.autoOrient().pipelineColourspace('cmyk').toColourspace('cmyk'), 4));
  return rawPixels(image.autoOrient().removeAlpha().toColourspace('srgb'), 3);
}

async function openImage(bytes: Uint8Array): Promise<Sharp> {
  const { default: sharp } = await import('sharp');
  return sharp(bytes, { limitInputPixels: MAX_IMAGE_PIXELS, failOn: 'truncated', ignoreIcc: true });
}

async function rawPixels(image: Sharp, channels: number): Promise<RgbImage> {
  const { data, info } = await image.raw({ depth: 'uchar' }).toBuffer({ resolveWithObject: true });
  if (info.channels !== channels) throw new Error(`${info.channels} colour channels instead of ${channels}`);
  return { width: info.width, height: info.height, data };
}

/** rgb = (255 - k) (255 - c) / 255 for each ink c, in integers as Pillow does. */
function fromInks({ width, height, data }: RgbImage): RgbImage {
  const rgb = new Uint8Array(width * height * 3);
  for (let i = 0; i < width * height; i++) {
    const light = 255 - data[4 * i + 3]!;
    for (let c = 0; c < 3; c++) {
      const product = data[4 * i + c]! * light + 128;
      rgb[3 * i + c] = light - ((product + (product >> 8)) >> 8);
    }
  }
  return { width, height, data: rgb };
}
