/**
 * Turns rows of tokens and images into the feeds of the training graph.
 *
 * A row is a prefix and any number of branches that continue it; branches see the prefix and themselves but not each
 * other, so that n responses to one prompt cost one prompt. A plain sequence is a row with one branch.
 */
import type { ImagePatches } from '../../generate/types.ts';
import { usesOf } from '../../ops/gather-rows.ts';
import type { HostFeeds } from '../../program.ts';
import { type HostTensor, int32 } from '../../tensor.ts';
import type { Qwen25VLConfig } from './config.ts';
import { KeptArrays } from './kept-arrays.ts';
import { mropePositions } from './rope.ts';
import type { VisionLayoutKind } from './vision.ts';
import { inverseFrequencies, type VisionLayout, visionLayout } from './vision-layout.ts';

/** Added to attention scores that must not count; far below any score, far above overflow. */
export const MASKED = -1e9;

export interface Branch {
  /** Tokens after the prefix. */
  readonly ids: ArrayLike<number>;
  /** Whether the loss asks for the token; absent means all of them. */
  readonly isTarget?: ArrayLike<number>;
}

export interface Row {
  /** Tokens shared by the branches, image placeholders expanded; at least one. */
  readonly prefix: ArrayLike<number>;
  /** For each image of the prefix, in order, its place in the batch's list of images. */
  readonly images: readonly number[];
  /** Shapes of the images as positions see them, of as many patches. @default their own */
  readonly grids?: readonly ImagePatches['grid'][];
  readonly branches: readonly Branch[];
}

export interface Batch {
  readonly feeds: HostFeeds;
  readonly visionKind: VisionLayoutKind | null;
  /** Target tokens of all branches, in order: what the log-probabilities are about. */
  readonly targets: Int32Array;
  /** First target of each branch of each row in `targets`, and their number. */
  readonly spans: readonly (readonly { readonly start: number; readonly length: number }[])[];
  /** B and T. */
  readonly shape: readonly [number, number];
}

/** @param memory where the pixels go, until something else is taken from it by that name */
export function buildBatch(
  config: Qwen25VLConfig,
  rows: readonly Row[],
  images: readonly ImagePatches[],
  memory?: KeptArrays,
): Batch {
  const laidOut = rows.map(layOutRow);
  const tokens = laidOut.reduce((most, row) => Math.max(most, row.ids.length), 1);
  const size = rows.length * tokens;
  const half = config.text.headDim / 2;
  const layout =
    images.length > 0
      ? visionLayout(
          images.map((image) => image.grid),
          config,
        )
      : null;
  const unitStart = unitOffsets(config, images);
  const units = unitStart.at(-1)!;

  const ids = new Int32Array(size);
  const isText = new Float32Array(size).fill(1);
  const slot = new Int32Array(size).fill(units);
  const cos = new Float32Array(size * half).fill(1);
  const sin = new Float32Array(size * half);
  const bias = new Float32Array(size * tokens).fill(MASKED);
  const labelRows: number[] = [];
  const targets: number[] = [];
  const spans: { start: number; length: number }[][] = [];
  const angles = new AngleTable(config);

  laidOut.forEach((row, b) => {
    const at = b * tokens;
    ids.set(row.ids, at);
    const grids = rows[b]!.grids ?? rows[b]!.images.map((image) => images[image]!.grid);
    const positions = rowPositions(config, row, grids);
    angles.write(positions, cos.subarray(at * half), sin.subarray(at * half));
    fillBias(bias.subarray(at * tokens, (at + tokens) * tokens), tokens, row);
    let image = 0;
    let unit = 0;
    for (let t = 0; t < row.prefixLength; t++) {
      if (row.ids[t] !== config.imageTokenId) continue;
      const source = rows[b]!.images[image]!;
      isText[at + t] = 0;
      slot[at + t] = layout!.inverseIndex[unitStart[source]! + unit]!;
      unit++;
      if (unit === unitStart[source + 1]! - unitStart[source]!) {
        image++;
        unit = 0;
      }
    }
    spans.push(
      row.branches.map((branch) => {
        const start = targets.length;
        for (let k = 0; k < branch.length; k++) {
          if (!branch.isTarget[k]) continue;
          // The token before predicts this one; a branch repeats the prefix's last token for its first.
          labelRows.push(at + branch.start + k);
          targets.push(branch.ids[k]!);
        }
        return { start, length: targets.length - start };
      }),
    );
  });

  const feeds: Record<string, HostTensor> = {
    ids: int32([size], ids),
    is_text: { dtype: 'float32', shape: [size, 1], data: isText },
    cos: { dtype: 'float32', shape: [rows.length, tokens, half], data: cos },
    sin: { dtype: 'float32', shape: [rows.length, tokens, half], data: sin },
    bias: { dtype: 'float32', shape: [rows.length, 1, tokens, tokens], data: bias },
    ...labelFeeds(labelRows, targets, size),
  };
  if (layout) {
    const uses = usesOf(slot, units);
    feeds['slot'] = int32([size], slot);
    feeds['slot_uses'] = int32(uses.shape, uses.data);
    Object.assign(feeds, visionFeeds(config, images, layout, memory));
  }
  return {
    feeds,
    visionKind: layout ? layoutKind(layout) : null,
    targets: Int32Array.from(targets),
    spans,
    shape: [rows.length, tokens],
  };
}

interface LaidOutRow {
  readonly ids: Int32Array;
  readonly prefixLength: number;
  /** start: position of the token that predicts the branch's first token. */
  readonly branches: readonly {
    readonly start: number;
    readonly length: number;
    readonly ids: ArrayLike<number>;
    readonly isTarget: ArrayLike<number>;
  }[];
}

/** prefix without its last token, then for each branch that last token and the branch without its own last token. */
function layOutRow(row: Row): LaidOutRow {
  const shared = row.prefix.length - 1;
  const last = row.prefix[shared]!;
  const length = row.branches.reduce((sum, branch) => sum + branch.ids.length, shared);
  const ids = new Int32Array(Math.max(length, 1));
  for (let t = 0; t < shared; t++) ids[t] = row.prefix[t]!;
  let at = shared;
  const branches = row.branches.map((branch) => {
    const start = at;
    ids[at++] = last;
    for (let k = 0; k + 1 < branch.ids.length; k++) ids[at++] = branch.ids[k]!;
    return {
      start,
      length: branch.ids.length,
      ids: branch.ids,
      isTarget: branch.isTarget ?? new Uint8Array(branch.ids.length).fill(1),
    };
  });
  return { ids, prefixLength: shared, branches };
}

/** Positions of a laid-out row, [3][T]: the prefix by the model's rule, each branch counting on from it. */
function rowPositions(
  config: Qwen25VLConfig,
  row: LaidOutRow,
  grids: readonly (readonly [number, number, number])[],
): Int32Array[] {
  const length = row.ids.length;
  const result = [new Int32Array(length), new Int32Array(length), new Int32Array(length)];
  let next = 0;
  if (row.prefixLength > 0) {
    const prefix = mropePositions([row.ids.subarray(0, row.prefixLength)], undefined, grids, config);
    for (let axis = 0; axis < 3; axis++) {
      for (let t = 0; t < row.prefixLength; t++) {
        const position = prefix.positions[axis * row.prefixLength + t]!;
        result[axis]![t] = position;
        next = Math.max(next, position + 1);
      }
    }
  }
  for (const branch of row.branches) {
    for (let k = 0; k < branch.length; k++) {
      for (let axis = 0; axis < 3; axis++) result[axis]![branch.start + k] = next + k;
    }
  }
  return result;
}

/** Causal over the prefix, and over prefix and itself for each branch; padding sees itself. */
function fillBias(bias: Float32Array, tokens: number, row: LaidOutRow): void {
  for (let t = 0; t < row.prefixLength; t++) bias.fill(0, t * tokens, t * tokens + t + 1);
  for (const { start, length } of row.branches) {
    for (let k = 0; k < length; k++) {
      const query = (start + k) * tokens;
      bias.fill(0, query, query + row.prefixLength);
      bias.fill(0, query + start, query + start + k + 1);
    }
  }
  for (let t = row.ids.length; t < tokens; t++) bias[t * tokens + t] = 0;
}

export function labelFeeds(
  labelRows: readonly number[],
  targets: readonly number[],
  size: number,
): Record<string, HostTensor> {
  const count = labelRows.length;
  const uses = usesOf(labelRows, size);
  const pairs = new BigInt64Array(2 * count);
  const words = new Int32Array(pairs.buffer);
  targets.forEach((target, i) => {
    words[4 * i] = i;
    words[4 * i + 2] = target;
  });
  return {
    label_index: int32([count], Int32Array.from(labelRows)),
    label_uses: int32(uses.shape, uses.data),
    pairs: { dtype: 'int64', shape: [count, 2], data: pairs },
  };
}

/** cos and sin of every position and frequency, computed once per position. */
class AngleTable {
  readonly #half: number;
  readonly #frequencies: Float64Array;
  /** Which position axis turns a frequency. */
  readonly #axis: Uint8Array;
  readonly #cos: Float32Array[] = [];
  readonly #sin: Float32Array[] = [];

  constructor(config: Qwen25VLConfig) {
    const { headDim, ropeTheta, mropeSection } = config.text;
    this.#half = headDim / 2;
    this.#frequencies = inverseFrequencies(headDim, ropeTheta);
    this.#axis = Uint8Array.from(mropeSection.flatMap((count, axis) => new Array<number>(count).fill(axis)));
  }

  write(positions: readonly Int32Array[], cos: Float32Array, sin: Float32Array): void {
    const length = positions[0]!.length;
    for (let t = 0; t < length; t++) {
      for (let i = 0; i < this.#half; i++) {
        const position = positions[this.#axis[i]!]![t]!;
        this.#row(position);
        cos[t * this.#half + i] = this.#cos[position]![i]!;
        sin[t * this.#half + i] = this.#sin[position]![i]!;
      }
    }
  }

  #row(position: number): void {
    if (this.#cos[position]) return;
    const angles = this.#frequencies.map((frequency) => Math.fround(position * frequency));
    this.#cos[position] = Float32Array.from(angles, Math.cos);
    this.#sin[position] = Float32Array.from(angles, Math.sin);
  }
}

/** Start of each image among the merged units of all images, and their total at the end. */
function unitOffsets(config: Qwen25VLConfig, images: readonly ImagePatches[]): number[] {
  const merge = config.vision.spatialMergeSize ** 2;
  const offsets = [0];
  for (const { grid } of images) offsets.push(offsets.at(-1)! + (grid[0] * grid[1] * grid[2]) / merge);
  return offsets;
}

export function layoutKind(layout: VisionLayout): VisionLayoutKind {
  return isUniform(layout) ? 'uniform' : 'padded';
}

/** Whether all windows are full and equal, and all images have as many. */
function isUniform({ cuWindowSeqlens: windows, cuImageSeqlens: images }: VisionLayout): boolean {
  const equalSteps = (starts: Int32Array) => starts.every((start, i) => start === i * starts[1]!);
  return equalSteps(windows) && equalSteps(images);
}

/** Feeds of the vision tower for a list of images. */
export function visionFeeds(
  config: Qwen25VLConfig,
  images: readonly ImagePatches[],
  layout: VisionLayout = visionLayout(
    images.map((image) => image.grid),
    config,
  ),
  memory = new KeptArrays(),
): Record<string, HostTensor> {
  const width = images[0]!.pixels.length / (images[0]!.grid[0] * images[0]!.grid[1] * images[0]!.grid[2]);
  const patches = layout.patches;
  const sources: { readonly pixels: Float32Array; readonly start: number }[] = [];
  let start = 0;
  for (const image of images) {
    sources.push({ pixels: image.pixels, start });
    start += image.pixels.length / width;
  }
  const pixels = memory.take('pixels', patches * width);
  let source = 0;
  for (let p = 0; p < patches; p++) {
    const from = layout.patchIndex[p]!;
    while (source + 1 < sources.length && sources[source + 1]!.start <= from) source++;
    while (sources[source]!.start > from) source--;
    const { pixels: data, start: first } = sources[source]!;
    pixels.set(data.subarray((from - first) * width, (from - first + 1) * width), p * width);
  }
  return {
    pixels: { dtype: 'float32', shape: [patches, width], data: pixels },
    ...segmentFeeds('windows', config, layout, layout.windowId),
    ...segmentFeeds('images', config, layout, layout.imageId),
  };
}

/** Lays patches out as [segments, size], padding short segments. */
function segmentFeeds(
  name: string,
  config: Qwen25VLConfig,
  layout: VisionLayout,
  segmentId: Int32Array,
): Record<string, HostTensor> {
  const half = config.vision.headDim / 2;
  const patches = segmentId.length;
  const count = segmentId[patches - 1]! + 1;
  const lengths = new Int32Array(count);
  for (const id of segmentId) lengths[id] = lengths[id]! + 1;
  const size = lengths.reduce((a, b) => Math.max(a, b), 0);
  const slots = count * size;
  const gather = new Int32Array(slots).fill(patches);
  const scatter = new Int32Array(patches);
  const bias = new Float32Array(slots).fill(MASKED);
  const cos = new Float32Array(slots * half).fill(1);
  const sin = new Float32Array(slots * half);
  lengths.fill(0);
  for (let p = 0; p < patches; p++) {
    const id = segmentId[p]!;
    const slot = id * size + lengths[id]!;
    lengths[id] = lengths[id]! + 1;
    gather[slot] = p;
    scatter[p] = slot;
    bias[slot] = 0;
    cos.set(layout.cos.subarray(p * half, (p + 1) * half), slot * half);
    sin.set(layout.sin.subarray(p * half, (p + 1) * half), slot * half);
  }
  const feeds: Record<string, HostTensor> = {
    [`${name}_cos`]: { dtype: 'float32', shape: [count, size, half], data: cos },
    [`${name}_sin`]: { dtype: 'float32', shape: [count, size, half], data: sin },
  };
  if (isUniform(layout)) return feeds;
  return {
    ...feeds,
    [`${name}_gather`]: int32([slots], gather),
    [`${name}_gather_uses`]: int32([patches, 1], scatter),
    [`${name}_scatter`]: int32([patches], scatter),
    [`${name}_scatter_uses`]: int32([slots, 1], gather),
    [`${name}_bias`]: { dtype: 'float32', shape: [count, 1, 1, size], data: bias },
  };
}
