import { describe, expect, it } from 'vitest';
import { estimateMemory } from '../../src/engine/models/qwen2_5_vl/estimate.ts';
import { openCheckpoint } from '../../src/engine/weights/checkpoint.ts';
import { fixture } from '../../test/helpers/fixtures.ts';
import { pretrainPlan } from './memory.ts';

const { config } = openCheckpoint(fixture('qwen2_5_vl', 'tiny_tied'));
const rows = [10, 30].map((length) => ({
  prefix: new Array<number>(20).fill(7),
  images: [0],
  branches: [{ ids: new Array<number>(length).fill(7) }],
}));
const planFor = (batchSize: number, microBatchSize: number) =>
  pretrainPlan(config, { rows, probes: rows.slice(0, 1) }, [1, 8, 8], { batchSize, microBatchSize, probed: 4 });

describe('pretrainPlan()', () => {
  it('holds the longest sample in every row of a micro-batch', () => {
    const { training, logProbs } = planFor(64, 16);
    expect(training).toMatchObject({ rows: 16, tokens: 50, targets: 480, accumulates: true });
    expect(training!.images).toHaveLength(16);
    expect(logProbs).toMatchObject({ rows: 4, tokens: 30, targets: 40 });
    expect(planFor(8, 16).training).toMatchObject({ rows: 8, accumulates: false });
  });

  it('counts the micro-batches of two updates, so that less memory is taken where either size is smaller', () => {
    const total = (batchSize: number, microBatchSize: number) =>
      estimateMemory(planFor(batchSize, microBatchSize)).total;
    expect(planFor(16, 16).imageBytes).toBe(0);
    expect(planFor(64, 16).imageBytes! / planFor(32, 16).imageBytes!).toBe(3);
    expect(total(32, 16)).toBeLessThan(total(64, 16));
    expect(total(64, 8)).toBeLessThan(total(64, 16));
  });
});
