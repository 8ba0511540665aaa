/**
 * Images that are changed at random after they were cut into patches: cells made black (PAPO's masked image) and Gaussian noise
 * (NoisyRollout's). The grid stays, so prompts built for the image fit the changed one.
 */
import type { RandomStream } from '../../random.ts';
import type { ImageSettings, ProcessedImage } from './image-processor.ts';

/**
 * Each patch becomes black with the given probability.
 *
 * NOTE: cells are the patches of the resized image, 14 x 14 pixels; the released code lays the same grid over the image before
 * the processor's last rounding of its size.
 */
export function maskPatches(
  image: ProcessedImage,
  settings: ImageSettings,
  probability: number,
  stream: RandomStream,
): ProcessedImage {
  const pixels = image.pixels.slice();
  const channel = settings.temporalPatchSize * settings.patchSize ** 2;
  for (let at = 0; at < pixels.length; at += 3 * channel) {
    if (stream.uniform() >= probability) continue;
    for (let c = 0; c < 3; c++) {
      const black = -settings.mean[c]! / settings.std[c]!;
      pixels.fill(black, at + c * channel, at + (c + 1) * channel);
    }
  }
  return { pixels, grid: image.grid };
}

const DIFFUSION_STEPS = 1000;

/**
 * x' = sqrt(a) x + sqrt(1 - a) e with x in [0, 1], clamped to it; a is what the forward diffusion leaves after `strength` steps
 * with variances 1e-5 + (0.005 - 1e-5) sigmoid(z), z from -6 to 6.
 *
 * strength  diffusion steps in [0, 1000]; below 1 the image stays as it is
 *
 * @see Leng et al. 2023, arXiv:2311.16922, from which NoisyRollout takes the noise
 */
export function addDiffusionNoise(
  image: ProcessedImage,
  settings: ImageSettings,
  strength: number,
  stream: RandomStream,
): ProcessedImage {
  const steps = Math.min(DIFFUSION_STEPS, Math.floor(strength));
  if (steps < 1) return image;
  const kept = signalKept(steps);
  const frame = settings.patchSize ** 2;
  const frames = settings.temporalPatchSize;
  const pixels = image.pixels.slice();
  for (let at = 0, c = 0; at < pixels.length; at += frames * frame, c = (c + 1) % 3) {
    const mean = settings.mean[c]!;
    const std = settings.std[c]!;
    for (let i = at; i < at + frame; i++) {
      const level = pixels[i]! * std + mean;
      const noisy = Math.sqrt(kept) * level + Math.sqrt(1 - kept) * stream.normal();
      pixels[i] = (Math.min(1, Math.max(0, noisy)) - mean) / std;
    }
    // A still image fills all frames of a patch.
    for (let t = 1; t < frames; t++) pixels.copyWithin(at + t * frame, at, at + frame);
  }
  return { pixels, grid: image.grid };
}

/** Share of the signal's variance that is left after so many diffusion steps. */
export function signalKept(steps: number): number {
  let kept = 1;
  for (let t = 0; t < steps; t++) {
    const z = -6 + (12 * t) / (DIFFUSION_STEPS - 1);
    kept *= 1 - (1e-5 + (0.005 - 1e-5) / (1 + Math.exp(-z)));
  }
  return kept;
}
