/**
 * Multimodal rotary positions of the language model: every token has a temporal, a height and a width position. Text
 * advances all three by one; the tokens of an image share one temporal position and count rows and columns from it, and
 * the text after it goes on at the largest position used plus one.
 *
 * @see Wang et al. 2024, arXiv:2409.12191, section 2.1 (M-RoPE)
 */
import { Fr1Error } from '../../../errors/fr1-error.ts';
import type { Qwen25VLConfig } from './config.ts';
import { type ImageGrid, imageTokens, inverseFrequencies } from './vision-layout.ts';

export interface MropePositions {
  /** [3, B, T] temporal, height, width; 0 at padding. */
  readonly positions: Int32Array;
  /** [B] next position minus number of real tokens: token number n after the prompt has position n + delta. */
  readonly deltas: Int32Array;
  readonly batch: number;
  readonly tokens: number;
}

/**
 * Positions of a batch.
 *
 * inputIds       B rows of T token ids, image tokens already expanded
 * attentionMask  B rows of T, 0 at padding; without it all tokens are real
 * imageGrids     of all images, in the order in which they occur through the rows
 *
 * @throws SHAPE_MISMATCH for rows of unequal length
 * @throws IMAGE_COUNT_MISMATCH when image tokens and grids do not fit
 * @see transformers, `Qwen2_5_VLModel.get_rope_index` (5.17)
 */
export function mropePositions(
  inputIds: readonly ArrayLike<number>[],
  attentionMask: readonly ArrayLike<number>[] | undefined,
  imageGrids: readonly ImageGrid[],
  config: Qwen25VLConfig,
): MropePositions {
  const batch = inputIds.length;
  const tokens = inputIds[0]?.length ?? 0;
  const positions = new Int32Array(3 * batch * tokens);
  const deltas = new Int32Array(batch);
  const merge = config.vision.spatialMergeSize;
  let image = 0;

  for (let b = 0; b < batch; b++) {
    const ids = inputIds[b]!;
    const mask = attentionMask?.[b];
    if (ids.length !== tokens || (attentionMask !== undefined && mask?.length !== tokens)) {
      throw new Fr1Error('SHAPE_MISMATCH', `row ${b} of a batch of ${tokens} tokens a row has another length`);
    }
    const set = (at: number, temporal: number, height: number, width: number) => {
      positions[b * tokens + at] = temporal;
      positions[(batch + b) * tokens + at] = height;
      positions[(2 * batch + b) * tokens + at] = width;
    };
    const isReal = (at: number) => mask === undefined || mask[at] !== 0;
    let next = 0;
    let highest = -1;
    let real = 0;
    for (let at = 0; at < tokens; ) {
      if (!isReal(at)) {
        at++;
        continue;
      }
      if (ids[at] !== config.imageTokenId) {
        set(at, next, next, next);
        highest = next++;
        real++;
        at++;
        continue;
      }
      const grid = imageGrids[image];
      if (grid === undefined) {
        throw new Fr1Error('IMAGE_COUNT_MISMATCH', `row ${b} has more image tokens than its ${image} images need`);
      }
      const [, h, w] = grid;
      const columns = w / merge;
      const perFrame = (h / merge) * columns;
      const count = imageTokens(grid, config);
      for (let k = 0; k < count; k++, at++) {
        while (at < tokens && !isReal(at)) at++;
        if (at >= tokens || ids[at] !== config.imageTokenId) {
          throw new Fr1Error(
            'IMAGE_COUNT_MISMATCH',
            `image ${image} of grid ${grid.join(' x ')} takes ${count} tokens, row ${b} has ${k} for it`,
          );
        }
        const inFrame = k % perFrame;
        const frame = Math.floor(k / perFrame);
        const row = Math.floor(inFrame / columns);
        const column = inFrame % columns;
        set(at, next + frame, next + row, next + column);
        highest = Math.max(highest, next + frame, next + row, next + column);
      }
      real += count;
      next += Math.max(h, w) / merge;
      image++;
    }
    deltas[b] = highest + 1 - real;
  }
  if (image !== imageGrids.length) {
    throw new Fr1Error(
      'IMAGE_COUNT_MISMATCH',
      `${imageGrids.length} images were given, the tokens hold places for ${image}`,
    );
  }
  return { positions, deltas, batch, tokens };
}

/**
 * Rotary factors for the half-split layout (column j turns elements j and j + D / 2): the first `mropeSection[0]`
 * columns turn with the temporal position, the next with the height, the last with the width.
 *
 * positions  [3, N]      N = B * T
 * ->         [N, D / 2]  float32, cos and sin
 */
export function mropeCosSin(
  positions: ArrayLike<number>,
  config: Qwen25VLConfig,
): { readonly cos: Float32Array; readonly sin: Float32Array } {
  const { headDim, ropeTheta, mropeSection } = config.text;
  const half = headDim / 2;
  const count = positions.length / 3;
  if (!Number.isInteger(count)) {
    throw new Fr1Error('SHAPE_MISMATCH', `${positions.length} positions are no three per token`);
  }
  const frequencies = inverseFrequencies(headDim, ropeTheta);
  const axisOf = mropeSection.flatMap((width, axis) => new Array<number>(width).fill(axis));
  const cos = new Float32Array(count * half);
  const sin = new Float32Array(count * half);
  for (let n = 0; n < count; n++) {
    for (let j = 0; j < half; j++) {
      const angle = Math.fround(positions[axisOf[j]! * count + n]! * frequencies[j]!);
      cos[n * half + j] = Math.cos(angle);
      sin[n * half + j] = Math.sin(angle);
    }
  }
  return { cos, sin };
}
