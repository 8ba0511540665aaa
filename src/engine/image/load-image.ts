/**
 * Image files to 8-bit RGB, as Pillow's `exif_transpose` and `convert('RGB')` give it: EXIF orientation is applied, alpha
 * is dropped (not composited), embedded colour profiles are not applied, CMYK is converted by ink coverage, and only the
 * first frame of an animation is read. Departures: 16-bit grey is scaled to 8 bits, where Pillow clips it to white; images
 * of more than 40 million pixels are read at a half, a quarter or an eighth of their size.
 */
import { readFile } from 'node:fs/promises';
import type { Metadata, Sharp } from 'sharp';
import { Fr1Error } from '../../errors/fr1-error.ts';
import { loadSharp } from './load-sharp.ts';

/** Interleaved rows: `data[(y * width + x) * 3 + channel]`. */
export interface RgbImage {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8Array;
}

/** Most pixels that are decoded as they are: with 8 bits of three colours and a turned copy, 240 MB. */
export const MAX_FULL_SIZE_PIXELS = 40_000_000;
/** Inks are converted, and drawings made, in memory, so half as many pixels fit. */
const MAX_PIXELS_IN_MEMORY = MAX_FULL_SIZE_PIXELS / 2;
/** Most pixels of a file, whatever it holds: those of a square whose sides have 14 bits. Pillow allows 179 million. */
const MAX_FILE_PIXELS = 16_383 ** 2;
/** Most that a decoder may hold of an image that it cannot read in passing; with the smaller image less than 500 MB. */
const MAX_DECODER_BYTES = 330e6;
const REDUCTIONS = [2, 4, 8] as const;

/**
 * Decodes a file, or its bytes.
 *
 * @param name what errors call the image. @default the path
 * @throws IMAGE_UNREADABLE naming the image, when it is missing, damaged, cut off, too large or of an unknown format
 */
export function loadImage(source: string | Uint8Array, name?: string): Promise<RgbImage> {
  return readImage(source, name, (bytes) => decode(bytes));
}

/**
 * What can be decoded of bytes that are cut off or damaged; the rest is grey or black.
 *
 * @throws IMAGE_UNREADABLE when nothing can
 */
export function decodeDamaged(bytes: Uint8Array): Promise<RgbImage> {
  return readImage(bytes, undefined, (given) => decode(given, 'none'));
}

/** sharp's name of the format of an image, e.g. `jpeg`, whatever its file is called. */
export async function imageFormat(bytes: Uint8Array): Promise<string> {
  return (await (await openImage(bytes)).metadata()).format;
}

export async function pngOf({ data, width, height }: RgbImage): Promise<Uint8Array> {
  const sharp = await loadSharp();
  return sharp(data, { raw: { width, height, channels: 3 } })
    .png()
    .toBuffer();
}

/**
 * The size that decoding would give, from the header of a file alone.
 *
 * @throws IMAGE_UNREADABLE naming the image, when it is missing, too large or of an unknown format
 */
export function imageSize(file: string): Promise<Size> {
  return readImage(file, undefined, async (bytes) => decodedSize(await (await openImage(bytes)).metadata()).size);
}

async function readImage<T>(
  source: string | Uint8Array,
  name: string | undefined,
  read: (bytes: Uint8Array) => Promise<T>,
): Promise<T> {
  const label = name ?? (typeof source === 'string' ? source : `image of ${source.length} bytes`);
  let bytes: Uint8Array | undefined;
  try {
    // NOTE: sharp is given bytes, not the path: it caches decoded files by path, and a changed file would go unnoticed.
    bytes = typeof source === 'string' ? await readFile(source) : source;
    return await read(bytes);
  } catch (cause) {
    const message = cause instanceof Error ? cause.message.split('\n')[0]! : String(cause);
    // NOTE: libvips has one text of errors for all threads; where two images fail at once, sharp finds none for the second.
    const told = message === 'Unknown error' ? 'it is damaged or cut off' : message;
    const reason = (bytes && notAnImage(bytes)) ?? told;
    throw new Fr1Error('IMAGE_UNREADABLE', `${label} cannot be read as an image: ${reason}`, {
      hint:
        cause instanceof TooLarge
          ? 'make the image smaller (`magick IN -resize 50% OUT.jpg`) or remove its row'
          : 'replace the file or remove its row; PNG, JPEG, WebP, GIF, TIFF, AVIF and SVG are read',
      cause,
    });
  }
}

/** Of files that often stand in an image's place, what they are. */
function notAnImage(bytes: Uint8Array): string | null {
  if (bytes.length === 0) return 'it is empty';
  const start = new TextDecoder().decode(bytes.subarray(0, 256)).trimStart().toLowerCase();
  return /^<(?:!doctype html|html|head|body)\b/.test(start)
    ? 'it is a web page, as a failed download leaves one'
    : null;
}

async function decode(bytes: Uint8Array, failOn?: FailOn): Promise<RgbImage> {
  const image = await openImage(bytes, failOn);
  const metadata = await image.metadata();
  const { size, isReduced } = decodedSize(metadata);
  image.autoOrient();
  if (isReduced) image.resize({ ...size, fit: 'fill' });
  if (metadata.space === 'cmyk')
    return fromInks(await rawPixels(image.pipelineColourspace('cmyk').toColourspace('cmyk'), 4));
  return rawPixels(image.removeAlpha().toColourspace('srgb'), 3);
}

class TooLarge extends Error {}

interface Size {
  readonly width: number;
  readonly height: number;
}

/** @throws TooLarge when even the reduced image would take more memory to read than an image may */
function decodedSize(metadata: Metadata): { readonly size: Size; readonly isReduced: boolean } {
  const { format, space, autoOrient } = metadata;
  const { width, height } = autoOrient;
  const pixels = width * height;
  const most = space === 'cmyk' || format === 'svg' ? MAX_PIXELS_IN_MEMORY : MAX_FULL_SIZE_PIXELS;
  if (pixels <= most) return { size: autoOrient, isReduced: false };
  const tooLarge = (why: string) => new TooLarge(`${width} x ${height} pixels are more than ${why}`);
  if (pixels > MAX_FILE_PIXELS) throw tooLarge(`the ${millions(MAX_FILE_PIXELS)} that any image may have`);
  const held = decoderBytesPerPixel(metadata);
  if (held === null) throw tooLarge(`the ${millions(most)} up to which images of this format (${format}) are read`);
  if (pixels * held > MAX_DECODER_BYTES) {
    throw tooLarge(
      `the ${millions(MAX_DECODER_BYTES / held)} that fit into memory for an image that is stored like this one`,
    );
  }
  const reduction = REDUCTIONS.find((by) => (pixels / by ** 2) * bytesPerSample(metadata) <= most) ?? 8;
  return {
    size: { width: Math.max(1, Math.floor(width / reduction)), height: Math.max(1, Math.floor(height / reduction)) },
    isReduced: true,
  };
}

/** What a decoder holds of the whole image while it gives a smaller one; null for formats that it cannot make smaller. */
function decoderBytesPerPixel(metadata: Metadata): number | null {
  const { format, isProgressive, chromaSubsampling, channels } = metadata;
  const samples = channels * bytesPerSample(metadata);
  switch (format) {
    case 'jpeg': // Coefficients of 16 bits, where they come in several passes over the image.
      return isProgressive ? 2 * (chromaSubsampling === '4:2:0' ? 1.5 : channels) : 0;
    case 'png': // Interlaced.
      return isProgressive ? samples : 0;
    case 'webp': // Four channels where nothing is lost, which the header does not tell.
      return 4;
    case 'tiff': // A strip may be the whole image.
      return samples;
    default:
      return null;
  }
}

function bytesPerSample({ bitsPerSample = 8 }: Metadata): number {
  return Math.ceil(bitsPerSample / 8);
}

/** `40.0 million`. */
function millions(count: number): string {
  return `${(count / 1e6).toFixed(1)} million`;
}

type FailOn = 'none' | 'truncated';

async function openImage(bytes: Uint8Array, failOn: FailOn = 'truncated'): Promise<Sharp> {
  const sharp = await loadSharp();
  return sharp(bytes, { limitInputPixels: false, failOn, ignoreIcc: true });
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
