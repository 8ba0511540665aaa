/** Sizes of a batch that is not built yet: the named sizes of its graphs, and the memory of its feeds. */
import { layoutKind } from './batch.ts';
import type { Qwen25VLConfig } from './config.ts';
import type { VisionLayoutKind } from './vision.ts';
import { type ImageGrid, type VisionLayout, visionLayout } from './vision-layout.ts';

export interface BatchSize {
  /** B */
  readonly rows: number;
  /** T, padding included. */
  readonly tokens: number;
  /** N: tokens of all rows that the loss asks for, or rows. */
  readonly targets: number;
  readonly images: readonly ImageGrid[];
}

const FLOAT = 4;

/** Patches of all images. */
export function patchesOf(images: readonly ImageGrid[]): number {
  return images.reduce((sum, [t, h, w]) => sum + t * h * w, 0);
}

/** Bytes of the pixels of images, cut into patches. */
export function pixelBytes({ vision }: Qwen25VLConfig, images: readonly ImageGrid[]): number {
  const { inChannels, temporalPatchSize, patchSize } = vision;
  return FLOAT * patchesOf(images) * inChannels * temporalPatchSize * patchSize ** 2;
}

/** Bytes of the feeds: attention bias, rotary angles, pixels. */
export function feedBytes(config: Qwen25VLConfig, { rows, tokens, images }: BatchSize): number {
  const bias = rows * tokens ** 2;
  const angles = rows * tokens * config.text.headDim;
  // Cosines and sines of half a head for windows and for whole images.
  const patchAngles = 2 * patchesOf(images) * config.vision.headDim;
  return FLOAT * (bias + angles + patchAngles) + pixelBytes(config, images);
}

/** The named sizes of all graphs, and how the vision tower is laid out. */
export function sizesOf(config: Qwen25VLConfig, size: BatchSize) {
  const sizes = new Map([
    ['B', size.rows],
    ['T', size.tokens],
    ['N', size.targets],
    ['R', 1],
  ]);
  if (size.images.length === 0) return { kind: null, sizes };
  const layout = visionLayout(size.images, config);
  const kind = layoutKind(layout);
  const unit = config.vision.spatialMergeSize ** 2;
  sizes.set('M', layout.patches / unit);
  const windows = layout.cuWindowSeqlens.length - 1;
  const images = layout.cuImageSeqlens.length - 1;
  sizes.set('I', images);
  sizes.set('W', kind === 'uniform' ? windows / images : windows);
  sizes.set('U', longest(layout.cuWindowSeqlens) / unit);
  sizes.set('S', longest(layout.cuWindowSeqlens));
  sizes.set('L', longest(layout.cuImageSeqlens));
  return { kind, sizes } satisfies { kind: VisionLayoutKind; sizes: Map<string, number> };
}

function longest(starts: VisionLayout['cuWindowSeqlens']): number {
  let most = 0;
  for (let i = 1; i < starts.length; i++) most = Math.max(most, starts[i]! - starts[i - 1]!);
  return most;
}
