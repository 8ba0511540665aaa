/** Members of the family whose vision tower has only one kind of attention; any layout of images must run. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fixture } from '../../../../test/helpers/fixtures.ts';
import { bareSource } from '../../../../test/helpers/session-source.ts';
import { openRuntime } from '../../session/open-runtime.ts';
import type { Runtime } from '../../session/runtime.ts';
import { openCheckpoint } from '../../weights/checkpoint.ts';
import { initialiseWeights } from './initialise.ts';
import { sequenceBatch } from './sequence-batch.ts';
import { TrainingModel } from './training-model.ts';

let runtime: Runtime;
beforeAll(async () => {
  runtime = await openRuntime({ threads: 2 });
});
afterAll(() => runtime.close());

const { config } = openCheckpoint(fixture('qwen2_5_vl', 'tiny_tied'));

/** Images whose windows (4 x 4 patches) are all full and equal, and images with smaller ones. */
const GRIDS = {
  uniform: [
    [1, 4, 8],
    [1, 4, 8],
  ],
  padded: [
    [1, 6, 4],
    [1, 2, 2],
  ],
} as const;

describe('sequenceBatch()', () => {
  it.each([
    ['no block', [], 'uniform'],
    ['no block', [], 'padded'],
    ['every block', [0, 1, 2, 3], 'uniform'],
    ['every block', [0, 1, 2, 3], 'padded'],
  ] as const)('runs where %s attends over the whole image (%j), %s windows', async (_, fullattBlockIndexes, kind) => {
    const member = { ...config, vision: { ...config.vision, fullattBlockIndexes } };
    const model = new TrainingModel(bareSource(runtime), member);
    initialiseWeights(model.store, member, 1);
    const images = GRIDS[kind].map((grid) => ({
      grid,
      pixels: Float32Array.from({ length: grid[1] * grid[2] * 1176 }, (_, i) => Math.sin(i)),
    }));
    const ids = images.flatMap(({ grid }) => [1, ...new Array(grid[1] * grid[2] * 0.25).fill(config.imageTokenId), 2]);
    const { batch } = sequenceBatch(member, { ids: [ids], mask: [ids.map(() => 1)], images }, [
      { row: 0, after: ids.length - 2, id: 2 },
      { row: 0, after: ids.length - 1, id: 3 },
    ]);
    expect(batch.visionKind).toBe(kind);
    const logProbs = await model.logProbs(batch);
    expect(Array.from(logProbs, (value) => value < 0)).toEqual([true, true]);
    await model.release();
  });
});
