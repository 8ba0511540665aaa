/**
 * Whole sequences as feeds of the training graph, laid out as another implementation pads them: every real token may be
 * a target, wherever it stands and wherever images stand. `buildBatch` is for training; this is for comparing.
 *
 * Padding computes what it does in transformers with eager attention: it attends to the real tokens before it, and to all
 * places alike where there are none. So a row that is padded on the left may have its first token for a label.
 */
import type { ImagePatches } from '../../generate/types.ts';
import { usesOf } from '../../ops/gather-rows.ts';
import { type HostTensor, int32 } from '../../tensor.ts';
import { type Batch, labelFeeds, layoutKind, MASKED, visionFeeds } from './batch.ts';
import type { Qwen25VLConfig } from './config.ts';
import { type MropePositions, mropeCosSin, mropePositions } from './rope.ts';
import { visionLayout } from './vision-layout.ts';

export interface Sequences {
  /** B rows of T token ids, image tokens expanded. */
  readonly ids: readonly ArrayLike<number>[];
  /** B rows of T, 0 at padding on either side. */
  readonly mask: readonly ArrayLike<number>[];
  /** In the order in which their tokens occur through the rows. */
  readonly images: readonly ImagePatches[];
}

/** What the loss asks for: the output at a place of the batch shall predict a token. */
export interface Target {
  readonly row: number;
  /** Place of the token whose output predicts. */
  readonly after: number;
  /** Token that is predicted. */
  readonly id: number;
}

export interface SequenceBatch {
  readonly batch: Batch;
  readonly positions: MropePositions;
}

/**
 * @param targets sorted by row
 * @throws IMAGE_COUNT_MISMATCH when image tokens and images do not fit
 */
export function sequenceBatch(config: Qwen25VLConfig, sequences: Sequences, targets: readonly Target[]): SequenceBatch {
  const { ids: rows, mask, images } = sequences;
  const tokens = rows[0]?.length ?? 0;
  const size = rows.length * tokens;
  const half = config.text.headDim / 2;
  const grids = images.map(({ grid }) => grid);
  const positions = mropePositions(rows, mask, grids, config);
  const layout = images.length > 0 ? visionLayout(grids, config) : null;
  const { cos, sin } = mropeCosSin(layout ? positions.positions : runningPlaces(rows.length, tokens), config);
  const units = layout?.inverseIndex.length ?? 0;

  const ids = new Int32Array(size);
  const isText = new Float32Array(size).fill(1);
  const slot = new Int32Array(size).fill(units);
  const bias = new Float32Array(size * tokens).fill(MASKED);
  let unit = 0;
  rows.forEach((row, b) => {
    for (let t = 0; t < tokens; t++) {
      const at = b * tokens + t;
      ids[at] = row[t]!;
      for (let s = 0; s <= t; s++) if (mask[b]![s] !== 0) bias[at * tokens + s] = 0;
      if (mask[b]![t] === 0 || row[t] !== config.imageTokenId) continue;
      isText[at] = 0;
      slot[at] = layout!.inverseIndex[unit++]!;
    }
  });

  const feeds: Record<string, HostTensor> = {
    ids: int32([size], ids),
    is_text: { dtype: 'float32', shape: [size, 1], data: isText },
    cos: { dtype: 'float32', shape: [rows.length, tokens, half], data: cos },
    sin: { dtype: 'float32', shape: [rows.length, tokens, half], data: sin },
    bias: { dtype: 'float32', shape: [rows.length, 1, tokens, tokens], data: bias },
    ...labelFeeds(
      targets.map(({ row, after }) => row * tokens + after),
      targets.map(({ id }) => id),
      size,
    ),
  };
  if (layout) {
    const uses = usesOf(slot, units);
    feeds['slot'] = int32([size], slot);
    feeds['slot_uses'] = int32(uses.shape, uses.data);
    Object.assign(feeds, visionFeeds(config, images, layout));
  }
  const batch: Batch = {
    feeds,
    visionKind: layout ? layoutKind(layout) : null,
    targets: Int32Array.from(targets, ({ id }) => id),
    spans: rows.map((_, b) => [
      {
        start: targets.filter(({ row }) => row < b).length,
        length: targets.filter(({ row }) => row === b).length,
      },
    ]),
    shape: [rows.length, tokens],
  };
  return { batch, positions };
}

/**
 * Positions [3, B, T] of a batch without images as transformers takes them, padding counted. Real tokens attend as at their own
 * positions, which differ by the same number for all of a row; padding that predicts does not.
 */
function runningPlaces(batch: number, tokens: number): Int32Array {
  return Int32Array.from({ length: 3 * batch * tokens }, (_, i) => i % tokens);
}
