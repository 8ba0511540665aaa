/**
 * The order in which the vision tower sees patches, and which of them attend to each other.
 *
 * Patches arrive in merge order: units of m x m patches (m = spatialMergeSize, each unit becomes one text token), units
 * row by row. The tower works in window order: units of one attention window stand together, so that a window is a
 * contiguous range. Images are packed one after the other along P; nothing attends across images or frames.
 */
import { Fr1Error } from '../../../errors/fr1-error.ts';
import type { Qwen25VLConfig } from './config.ts';

/** Patches of an image: frames, rows, columns. A still image has one frame. */
export type ImageGrid = readonly [t: number, h: number, w: number];

export interface VisionLayout {
  /** P */
  readonly patches: number;
  /** [P / m^2] merged unit (before) at each position (after); the tower's input is `units[windowIndex]`. */
  readonly windowIndex: Int32Array;
  /** [P / m^2] position (after) of each merged unit (before): `output[inverseIndex]` restores the order of the images. */
  readonly inverseIndex: Int32Array;
  /** [P] the same permutation patch by patch: patch (before) at each position (after). */
  readonly patchIndex: Int32Array;
  /** [windows + 1] first patch of each window, then P. */
  readonly cuWindowSeqlens: Int32Array;
  /** [frames + 1] first patch of each frame of each image, then P. */
  readonly cuImageSeqlens: Int32Array;
  /** [P] window of each patch, in window order. */
  readonly windowId: Int32Array;
  /** [P] frame of each patch, counted through all images, in window order; for still images the image. */
  readonly imageId: Int32Array;
  /** [P, D / 2] rotary factors in window order: the first half of the columns turns with the row, the rest with the column. */
  readonly cos: Float32Array;
  readonly sin: Float32Array;
}

/** Text tokens that an image takes: t * h * w / m^2. */
export function imageTokens([t, h, w]: ImageGrid, config: Qwen25VLConfig): number {
  return (t * h * w) / config.vision.spatialMergeSize ** 2;
}

/**
 * @throws SHAPE_MISMATCH when a grid is not made of whole merge units
 * @see transformers, `get_vision_window_index` and `get_vision_position_ids` (5.17)
 */
export function visionLayout(grids: readonly ImageGrid[], config: Qwen25VLConfig): VisionLayout {
  const { spatialMergeSize: merge, windowSize, patchSize, headDim, ropeTheta } = config.vision;
  const unit = merge * merge;
  for (const grid of grids) checkGrid(grid, merge);
  const patches = grids.reduce((sum, [t, h, w]) => sum + t * h * w, 0);
  const units = patches / unit;
  /** Merged units on a side of a window. */
  const side = Math.floor(windowSize / (merge * patchSize));

  const windowIndex = new Int32Array(units);
  const inverseIndex = new Int32Array(units);
  const patchIndex = new Int32Array(patches);
  const windowId = new Int32Array(patches);
  const imageId = new Int32Array(patches);
  const windowStarts: number[] = [];
  const frameStarts: number[] = [];
  const half = headDim / 2;
  const cos = new Float32Array(patches * half);
  const sin = new Float32Array(patches * half);
  const frequencies = inverseFrequencies(half, ropeTheta);

  let next = 0; // position in window order, in units
  let firstUnit = 0; // of the current frame, in merge order

  /** Puts the unit at the given place of the current frame next in window order. */
  function place(row: number, column: number, columns: number): void {
    const before = firstUnit + row * columns + column;
    windowIndex[next] = before;
    inverseIndex[before] = next;
    for (let k = 0; k < unit; k++) {
      const after = next * unit + k;
      patchIndex[after] = before * unit + k;
      windowId[after] = windowStarts.length - 1;
      imageId[after] = frameStarts.length - 1;
      const y = row * merge + Math.floor(k / merge);
      const x = column * merge + (k % merge);
      writeAngles(cos, sin, after * half, frequencies, y);
      writeAngles(cos, sin, after * half + frequencies.length, frequencies, x);
    }
    next++;
  }

  for (const [t, h, w] of grids) {
    const rows = h / merge;
    const columns = w / merge;
    for (let frame = 0; frame < t; frame++) {
      frameStarts.push(firstUnit * unit);
      for (let top = 0; top < rows; top += side) {
        for (let left = 0; left < columns; left += side) {
          windowStarts.push(next * unit);
          for (let row = top; row < Math.min(top + side, rows); row++) {
            for (let column = left; column < Math.min(left + side, columns); column++) place(row, column, columns);
          }
        }
      }
      firstUnit += rows * columns;
    }
  }
  return {
    patches,
    windowIndex,
    inverseIndex,
    patchIndex,
    cuWindowSeqlens: Int32Array.from([...windowStarts, patches]),
    cuImageSeqlens: Int32Array.from([...frameStarts, patches]),
    windowId,
    imageId,
    cos,
    sin,
  };
}

function checkGrid([t, h, w]: ImageGrid, merge: number): void {
  const whole = [t, h, w].every((size) => Number.isSafeInteger(size) && size > 0);
  if (!whole || h % merge !== 0 || w % merge !== 0) {
    throw new Fr1Error(
      'SHAPE_MISMATCH',
      `an image grid of ${t} x ${h} x ${w} patches is not made of ${merge} x ${merge} units`,
    );
  }
}

/** Rotary frequencies theta^(-2 j / width) for j < width / 2, rounded to float32 at each step as PyTorch does. */
export function inverseFrequencies(width: number, theta: number): Float64Array {
  return Float64Array.from({ length: width / 2 }, (_, j) =>
    Math.fround(1 / Math.fround(theta ** Math.fround((2 * j) / width))),
  );
}

/** Writes cos and sin of position * frequency for all frequencies, from `offset` on. */
function writeAngles(
  cos: Float32Array,
  sin: Float32Array,
  offset: number,
  frequencies: Float64Array,
  position: number,
): void {
  for (let j = 0; j < frequencies.length; j++) {
    const angle = Math.fround(position * frequencies[j]!);
    cos[offset + j] = Math.cos(angle);
    sin[offset + j] = Math.sin(angle);
  }
}
