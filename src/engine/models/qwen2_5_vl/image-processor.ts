/**
 * Images to the patches that the vision tower takes: resize to whole merge units within a pixel budget, rescale,
 * normalise, cut into patches. Equal to transformers' Qwen2VLImageProcessor (torchvision backend) to the last bit of
 * the 8-bit resized image.
 */
import { Fr1Error } from '../../../errors/fr1-error.ts';
import type { RgbImage } from '../../image/load-image.ts';
import { resizeBicubic, resizeBicubicAsPillow } from '../../image/resize.ts';
import { isRecord } from './config.ts';
import type { ImageGrid } from './vision-layout.ts';

export interface ImageSettings {
  /** Smallest and largest area of the resized image in pixels. */
  readonly minPixels: number;
  readonly maxPixels: number;
  readonly patchSize: number;
  readonly temporalPatchSize: number;
  readonly mergeSize: number;
  /** Of the channels, for values in 0..1. */
  readonly mean: readonly [number, number, number];
  readonly std: readonly [number, number, number];
}

export interface ProcessedImage {
  /** [P, 3 * temporalPatchSize * patchSize^2], elements of a patch in the order channel, frame, row, column. */
  readonly pixels: Float32Array;
  readonly grid: ImageGrid;
}

/** What transformers takes where preprocessor_config.json says nothing. */
const DEFAULTS: ImageSettings = {
  minPixels: 56 * 56,
  maxPixels: 28 * 28 * 1280,
  patchSize: 14,
  temporalPatchSize: 2,
  mergeSize: 2,
  mean: [0.48145466, 0.4578275, 0.40821073],
  std: [0.26862954, 0.26130258, 0.27577711],
};

/**
 * Reads a parsed preprocessor_config.json, or the image_processor part of a processor_config.json.
 *
 * @param file named in errors
 * @throws TOKENIZER_INVALID listing every value that is wrong or not supported
 */
export function parseImageSettings(json: unknown, file = 'preprocessor_config.json'): ImageSettings {
  if (!isRecord(json)) throw new Fr1Error('TOKENIZER_INVALID', `${file} is not a JSON object`);
  const problems: string[] = [];
  const size = isRecord(json['size']) ? json['size'] : {};

  function count(key: string, absent: number, found: unknown = entry(key)): number {
    if (found === undefined || found === null) return absent;
    if (Number.isSafeInteger(found) && (found as number) > 0) return found as number;
    problems.push(`${key} is ${JSON.stringify(found)}, expected a whole number above 0`);
    return absent;
  }
  function entry(key: string): unknown {
    return (json as Record<string, unknown>)[key];
  }
  function channels(key: string, absent: ImageSettings['mean']): ImageSettings['mean'] {
    const found = entry(key) ?? absent;
    if (Array.isArray(found) && found.length === 3 && found.every(Number.isFinite)) {
      return found as [number, number, number];
    }
    problems.push(`${key} is ${JSON.stringify(found)}, expected three numbers`);
    return absent;
  }
  for (const key of ['do_resize', 'do_rescale', 'do_normalize']) {
    if (entry(key) === false) problems.push(`${key} false is not supported`);
  }
  if ((entry('resample') ?? 3) !== 3) problems.push('resample must be 3 (bicubic)');
  const factor = entry('rescale_factor') ?? 1 / 255;
  if (typeof factor !== 'number' || Math.abs(factor * 255 - 1) > 1e-6) problems.push('rescale_factor must be 1/255');

  const settings: ImageSettings = {
    minPixels: count('min_pixels', DEFAULTS.minPixels, entry('min_pixels') ?? size['shortest_edge']),
    maxPixels: count('max_pixels', DEFAULTS.maxPixels, entry('max_pixels') ?? size['longest_edge']),
    patchSize: count('patch_size', DEFAULTS.patchSize),
    temporalPatchSize: count('temporal_patch_size', DEFAULTS.temporalPatchSize),
    mergeSize: count('merge_size', DEFAULTS.mergeSize),
    mean: channels('image_mean', DEFAULTS.mean),
    std: channels('image_std', DEFAULTS.std),
  };
  if (settings.minPixels > settings.maxPixels) {
    problems.push(`min_pixels ${settings.minPixels} is above max_pixels ${settings.maxPixels}`);
  }
  if (settings.std.includes(0)) problems.push('image_std has a 0');
  if (problems.length > 0) {
    throw new Fr1Error('TOKENIZER_INVALID', `${file} cannot be used:\n${problems.map((p) => `  ${p}`).join('\n')}`);
  }
  return settings;
}

/** Whole number nearest to the value, ties to the even one (Python's round). */
function roundHalfEven(value: number): number {
  const below = Math.floor(value);
  const rest = value - below;
  if (rest !== 0.5) return Math.round(value);
  return below % 2 === 0 ? below : below + 1;
}

/**
 * Size near the given one whose sides are multiples of `factor` and whose area lies within the budget where that is
 * possible.
 *
 * @throws IMAGE_UNREADABLE when one side is more than 200 times the other
 */
export function smartResize(
  height: number,
  width: number,
  factor: number,
  minPixels: number,
  maxPixels: number,
): { height: number; width: number } {
  const ratio = Math.max(height, width) / Math.min(height, width);
  if (!(ratio <= 200)) {
    throw new Fr1Error(
      'IMAGE_UNREADABLE',
      `an image of ${width} x ${height} pixels is too narrow: one side may be at most 200 times the other`,
    );
  }
  const area = roundHalfEven(height / factor) * factor * (roundHalfEven(width / factor) * factor);
  if (area > maxPixels) {
    const shrink = Math.sqrt((height * width) / maxPixels);
    const fit = (side: number) => Math.max(factor, Math.floor(side / shrink / factor) * factor);
    return { height: fit(height), width: fit(width) };
  }
  if (area < minPixels) {
    const grow = Math.sqrt(minPixels / (height * width));
    const fit = (side: number) => Math.ceil((side * grow) / factor) * factor;
    return { height: fit(height), width: fit(width) };
  }
  return { height: roundHalfEven(height / factor) * factor, width: roundHalfEven(width / factor) * factor };
}

/** What a trainer allows images before its model resizes them. */
export interface PixelBudget {
  /** Smallest and largest area in pixels. */
  readonly minPixels?: number | undefined;
  readonly maxPixels?: number | undefined;
  /** Whether images that are too small or too narrow for the model are stretched. @default false */
  readonly stretchesNarrow?: boolean;
}

/** The model takes images of at most 200 times the other side; wider ones are made so many times as wide. */
const MOST_NARROW = 180;
const SMALLEST_SIDE = 28;

interface Size {
  readonly height: number;
  readonly width: number;
}

/**
 * Sizes that an image passes through before the model's own resize to whole merge units: both sides are scaled until the area
 * fits, and cut to whole pixels; then narrow images are stretched. Each is a resize of its own, and most images need one at
 * most; without bounds there is none.
 *
 * @see LLaMA-Factory 0.9.4 (fine-tuning of Fine-R1, which stretches) and the trainer of its reinforcement, which does not
 */
export function budgetedSizes(
  height: number,
  width: number,
  { minPixels, maxPixels, stretchesNarrow = false }: PixelBudget,
): Size[] {
  if (minPixels === undefined && maxPixels === undefined) return [];
  const sizes: Size[] = [{ height, width }];
  const last = () => sizes.at(-1)!;
  const area = () => last().height * last().width;
  const scaleTo = (pixels: number) => {
    const factor = Math.sqrt(pixels / area());
    const scaled = (side: number) => Math.max(1, Math.trunc(side * factor));
    sizes.push({ height: scaled(last().height), width: scaled(last().width) });
  };
  if (maxPixels !== undefined && area() > maxPixels) scaleTo(maxPixels);
  if (minPixels !== undefined && area() < minPixels) scaleTo(minPixels);
  if (stretchesNarrow) {
    const [h, w] = [Math.max(last().height, SMALLEST_SIDE), Math.max(last().width, SMALLEST_SIDE)];
    if (Math.min(last().height, last().width) < SMALLEST_SIDE) sizes.push({ height: h, width: w });
    if (w / h > 200) sizes.push({ height: h, width: h * MOST_NARROW });
    else if (h / w > 200) sizes.push({ height: w * MOST_NARROW, width: w });
  }
  return sizes.slice(1);
}

/** The size of an image before the model's own resize. */
export function fittedSize(height: number, width: number, budget: PixelBudget): Size {
  return budgetedSizes(height, width, budget).at(-1) ?? { height, width };
}

/** Resizes to the {@link budgetedSizes} as Pillow does; the image itself where the budget sets no bound. */
export function fitBudget(image: RgbImage, budget: PixelBudget): RgbImage {
  return budgetedSizes(image.height, image.width, budget).reduce<RgbImage>(
    (fitted, { height, width }) => resizeBicubicAsPillow(fitted, height, width),
    image,
  );
}

/** Patches that an image of the given size is cut into, without touching its pixels. */
export function imageGrid(height: number, width: number, settings: ImageSettings): ImageGrid {
  const { patchSize, mergeSize, minPixels, maxPixels } = settings;
  const size = smartResize(height, width, patchSize * mergeSize, minPixels, maxPixels);
  return [1, size.height / patchSize, size.width / patchSize];
}

/**
 * Resizes, normalises and cuts an image. Patches come in merge order: the mergeSize^2 patches of a token together,
 * tokens row by row; a still image fills all frames of a patch.
 *
 * @throws IMAGE_UNREADABLE for an extreme shape
 */
export function processImage(image: RgbImage, settings: ImageSettings): ProcessedImage {
  const { patchSize, mergeSize, temporalPatchSize } = settings;
  const grid = imageGrid(image.height, image.width, settings);
  const [, rows, columns] = grid;
  const { data, width } = resizeBicubic(image, rows * patchSize, columns * patchSize);
  const levels = normalisedLevels(settings);

  const frame = patchSize * patchSize;
  const pixels = new Float32Array(rows * columns * 3 * temporalPatchSize * frame);
  let out = 0;
  for (let unitRow = 0; unitRow < rows; unitRow += mergeSize) {
    for (let unitColumn = 0; unitColumn < columns; unitColumn += mergeSize) {
      for (let k = 0; k < mergeSize * mergeSize; k++) {
        const top = (unitRow + Math.floor(k / mergeSize)) * patchSize;
        const left = (unitColumn + (k % mergeSize)) * patchSize;
        for (let channel = 0; channel < 3; channel++) {
          const start = out;
          for (let y = top; y < top + patchSize; y++) {
            let at = (y * width + left) * 3 + channel;
            for (let x = 0; x < patchSize; x++, at += 3) pixels[out++] = levels[channel * 256 + data[at]!]!;
          }
          for (let t = 1; t < temporalPatchSize; t++, out += frame) pixels.copyWithin(out, start, start + frame);
        }
      }
    }
  }
  return { pixels, grid };
}

/** [3, 256] normalised value of each 8-bit level, in float32 as PyTorch computes it: (v - 255 mean) / (255 std). */
function normalisedLevels({ mean, std }: ImageSettings): Float32Array {
  const levels = new Float32Array(3 * 256);
  for (let channel = 0; channel < 3; channel++) {
    const offset = Math.fround(Math.fround(mean[channel]!) * 255);
    const scale = Math.fround(Math.fround(std[channel]!) * 255);
    for (let value = 0; value < 256; value++) {
      levels[channel * 256 + value] = Math.fround(value - offset) / scale;
    }
  }
  return levels;
}
