import { describe, expect, it } from 'vitest';
import { RandomStream } from '../../random.ts';
import { addDiffusionNoise, maskPatches, signalKept } from './distortions.ts';
import { type ImageSettings, processImage } from './image-processor.ts';

const SETTINGS: ImageSettings = {
  minPixels: 1,
  maxPixels: 1e6,
  patchSize: 14,
  temporalPatchSize: 2,
  mergeSize: 2,
  mean: [0.48, 0.46, 0.41],
  std: [0.27, 0.26, 0.28],
};
const CHANNEL = 2 * 14 * 14;
const side = 280;
const image = processImage(
  { width: side, height: side, data: Uint8Array.from({ length: side * side * 3 }, (_, i) => 60 + ((i * 7) % 130)) },
  SETTINGS,
);

/** Values in [0, 1] of one channel of a patch, first frame. */
const levels = (pixels: Float32Array, patch: number, channel: number) =>
  Array.from(pixels.subarray((3 * patch + channel) * CHANNEL, (3 * patch + channel) * CHANNEL + 196)).map(
    (value) => value * SETTINGS.std[channel]! + SETTINGS.mean[channel]!,
  );

describe('maskPatches()', () => {
  it('makes the share of patches black and leaves the others as they are', () => {
    const masked = maskPatches(image, SETTINGS, 0.6, new RandomStream(1));
    let black = 0;
    for (let patch = 0; patch < 400; patch++) {
      const after = [0, 1, 2].flatMap((channel) => levels(masked.pixels, patch, channel));
      const before = [0, 1, 2].flatMap((channel) => levels(image.pixels, patch, channel));
      if (after.every((level) => Math.abs(level) < 1e-6)) black++;
      else expect(after).toEqual(before);
    }
    expect(black / 400).toBeGreaterThan(0.53);
    expect(black / 400).toBeLessThan(0.67);
    expect(masked.grid).toEqual(image.grid);
  });
});

describe('addDiffusionNoise()', () => {
  it('keeps levels in range and both frames equal, and blurs more with more strength', () => {
    const distance = (strength: number) => {
      const { pixels } = addDiffusionNoise(image, SETTINGS, strength, new RandomStream(2));
      for (let at = 0; at < pixels.length; at += CHANNEL) {
        expect(pixels.subarray(at, at + 196)).toEqual(pixels.subarray(at + 196, at + 392));
      }
      const after = levels(pixels, 3, 1);
      expect(Math.min(...after)).toBeGreaterThan(-1e-6);
      expect(Math.max(...after)).toBeLessThan(1 + 1e-6);
      const before = levels(image.pixels, 3, 1);
      return after.reduce((sum, level, i) => sum + Math.abs(level - before[i]!), 0) / 196;
    };
    expect(addDiffusionNoise(image, SETTINGS, 0.5, new RandomStream(2))).toBe(image);
    expect(distance(100)).toBeLessThan(distance(300));
    expect(distance(300)).toBeLessThan(distance(500));
  });

  it('leaves what the diffusion leaves', () => {
    // numpy: beta = 1/(1+exp(-linspace(-6,6,1000)))*(0.005-1e-5)+1e-5; cumprod(1-beta)[499], [999]
    expect(signalKept(500)).toBeCloseTo(0.74667454, 6);
    expect(signalKept(1000)).toBeCloseTo(0.08124919, 6);
  });
});
