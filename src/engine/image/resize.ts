/**
 * Antialiased resizing of 8-bit images in integers, bit for bit as PyTorch does it for uint8 tensors, or as Pillow does:
 * first along rows, then along columns, each pass rounded to 8 bits, weights as fixed point of 16 bits or with 22 bits of
 * fraction.
 *
 * @see PyTorch, `torch.nn.functional.interpolate(mode='bicubic', antialias=True)` on uint8
 * @see Pillow, `Image.resize` with `Resampling.BICUBIC`, the default
 * @see Keys 1981, "Cubic convolution interpolation for digital image processing" (a = -0.5)
 */
import { Fr1Error } from '../../errors/fr1-error.ts';
import type { RgbImage } from './load-image.ts';

const CHANNELS = 3;

/** For each output position along one axis: the input positions it is made of, and their fixed-point weights. */
interface Taps {
  /** First input position of each output position. */
  readonly starts: Int32Array;
  readonly counts: Int32Array;
  /** `width` weights per output position, unused ones 0. */
  readonly weights: Int32Array;
  readonly width: number;
  /** Fraction bits of the weights. */
  readonly precision: number;
}

/** A kernel of interpolation: `weight` is 0 from the distance `support` on. */
interface Kernel {
  readonly support: number;
  weight(distance: number): number;
}

/** Keys' cubic kernel with a = -0.5. */
const CUBIC: Kernel = {
  support: 2,
  weight(distance) {
    const a = -0.5;
    const x = Math.abs(distance);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
    return 0;
  },
};

/** Fraction bits of Pillow's weights. */
const PILLOW_PRECISION = 22;

const TRIANGLE: Kernel = { support: 1, weight: (distance) => Math.max(0, 1 - Math.abs(distance)) };

/** @throws SHAPE_MISMATCH for a size that is no whole number above 0 */
export function resizeBicubic(image: RgbImage, height: number, width: number): RgbImage {
  return resize(image, height, width, CUBIC);
}

/** What `Image.resize` of Pillow gives. @throws SHAPE_MISMATCH for a size that is no whole number above 0 */
export function resizeBicubicAsPillow(image: RgbImage, height: number, width: number): RgbImage {
  return resize(image, height, width, CUBIC, PILLOW_PRECISION);
}

/** @throws SHAPE_MISMATCH for a size that is no whole number above 0 */
export function resizeBilinear(image: RgbImage, height: number, width: number): RgbImage {
  return resize(image, height, width, TRIANGLE);
}

function resize(image: RgbImage, height: number, width: number, kernel: Kernel, precision?: number): RgbImage {
  if (!Number.isSafeInteger(height) || !Number.isSafeInteger(width) || height < 1 || width < 1) {
    throw new Fr1Error('SHAPE_MISMATCH', `an image cannot be resized to ${height} x ${width} pixels`);
  }
  const narrowed =
    width === image.width ? image : resizeRows(image, width, taps(image.width, width, kernel, precision));
  return height === image.height
    ? narrowed
    : resizeColumns(narrowed, height, taps(image.height, height, kernel, precision));
}

/**
 * Shrinking widens the kernel by the scale, so that every input pixel counts.
 *
 * @param fixedPrecision fraction bits of the weights. @default as many as leave the largest weight within 16 bits
 */
function taps(inputSize: number, outputSize: number, kernel: Kernel, fixedPrecision?: number): Taps {
  const scale = inputSize / outputSize;
  const stretch = Math.max(scale, 1);
  const support = kernel.support * stretch;
  const width = Math.ceil(support) * 2 + 1;
  const starts = new Int32Array(outputSize);
  const counts = new Int32Array(outputSize);
  const real = new Float64Array(outputSize * width);
  let largest = 0;
  for (let i = 0; i < outputSize; i++) {
    const center = scale * (i + 0.5);
    const start = Math.max(Math.trunc(center - support + 0.5), 0);
    const count = Math.min(Math.trunc(center + support + 0.5), inputSize) - start;
    let total = 0;
    for (let j = 0; j < count; j++) {
      const weight = kernel.weight((start + j - center + 0.5) / stretch);
      real[i * width + j] = weight;
      total += weight;
    }
    for (let j = 0; j < count; j++) {
      real[i * width + j]! /= total;
      largest = Math.max(largest, real[i * width + j]!);
    }
    starts[i] = start;
    counts[i] = count;
  }
  const precision = fixedPrecision ?? precisionFor(largest);
  const weights = Int32Array.from(real, (weight) => Math.trunc(weight * 2 ** precision + (weight < 0 ? -0.5 : 0.5)));
  return { starts, counts, weights, width, precision };
}

/** As many fraction bits as leave the largest weight within 16 bits. */
function precisionFor(largest: number): number {
  let precision = 0;
  while (precision < 22 && Math.trunc(0.5 + largest * 2 ** (precision + 1)) < 1 << 15) precision++;
  return precision;
}

function clamp8(value: number): number {
  return Math.max(0, Math.min(255, value));
}

function resizeRows(
  image: RgbImage,
  width: number,
  { starts, counts, weights, width: stride, precision }: Taps,
): RgbImage {
  const { data: source, height } = image;
  const target = new Uint8Array(width * height * CHANNELS);
  const half = 1 << (precision - 1);
  for (let y = 0; y < height; y++) {
    const row = y * image.width * CHANNELS;
    let out = y * width * CHANNELS;
    for (let x = 0; x < width; x++) {
      let at = row + starts[x]! * CHANNELS;
      let red = half;
      let green = half;
      let blue = half;
      const end = x * stride + counts[x]!;
      for (let k = x * stride; k < end; k++, at += CHANNELS) {
        const weight = weights[k]!;
        red += source[at]! * weight;
        green += source[at + 1]! * weight;
        blue += source[at + 2]! * weight;
      }
      target[out++] = clamp8(red >> precision);
      target[out++] = clamp8(green >> precision);
      target[out++] = clamp8(blue >> precision);
    }
  }
  return { width, height, data: target };
}

function resizeColumns(
  image: RgbImage,
  height: number,
  { starts, counts, weights, width: stride, precision }: Taps,
): RgbImage {
  const { data: source, width } = image;
  const rowLength = width * CHANNELS;
  const target = new Uint8Array(rowLength * height);
  const sums = new Int32Array(rowLength);
  for (let y = 0; y < height; y++) {
    sums.fill(1 << (precision - 1));
    for (let j = 0; j < counts[y]!; j++) {
      const weight = weights[y * stride + j]!;
      const row = (starts[y]! + j) * rowLength;
      for (let x = 0; x < rowLength; x++) sums[x]! += source[row + x]! * weight;
    }
    for (let x = 0; x < rowLength; x++) target[y * rowLength + x] = clamp8(sums[x]! >> precision);
  }
  return { width, height, data: target };
}
