import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fixture } from '../../../../test/helpers/fixtures.ts';
import { bareSource } from '../../../../test/helpers/session-source.ts';
import type { ImagePatches } from '../../generate/types.ts';
import { WEIGHTED_NLL } from '../../loss/weighted-nll.ts';
import { globalNorm } from '../../optim/gradients.ts';
import { RandomStream } from '../../random.ts';
import { openRuntime } from '../../session/open-runtime.ts';
import type { Runtime } from '../../session/runtime.ts';
import { openCheckpoint } from '../../weights/checkpoint.ts';
import { buildBatch, type Row } from './batch.ts';
import { TrainingModel } from './training-model.ts';

const checkpoint = openCheckpoint(fixture('qwen2_5_vl', 'tiny_tied'));
const { config } = checkpoint;
let runtime: Runtime;
let model: TrainingModel;

beforeAll(async () => {
  runtime = await openRuntime({ threads: 1 });
  model = new TrainingModel(bareSource(runtime), config);
  for (const { name } of checkpoint.parameters) checkpoint.readFloat32(name, model.store.tensor(name).data);
});
afterAll(() => runtime.close());

function image(seed: number, height: number, width: number): ImagePatches {
  const stream = new RandomStream('layout', seed);
  return {
    grid: [1, height, width],
    pixels: Float32Array.from({ length: height * width * 1176 }, () => stream.normal()),
  };
}

/** A row that shows one image and continues with three branches. */
function rowOf(place: number, of: ImagePatches, branches: readonly (readonly number[])[]): Row {
  const units = (of.grid[1] * of.grid[2]) / 4;
  const prefix = [
    5,
    config.visionStartTokenId,
    ...new Array(units).fill(config.imageTokenId),
    config.visionEndTokenId,
    9,
  ];
  return { prefix, images: [place], branches: branches.map((ids) => ({ ids })) };
}

const BRANCHES = [
  [11, 12, 13, 14],
  [21, 22],
  [31, 32, 33],
];

describe('vision layouts', () => {
  it('gives the same log-probabilities and gradients whether windows are reshaped or padded', async () => {
    const even = image(1, 8, 8);
    const odd = image(2, 6, 10);
    const uniform = buildBatch(config, [rowOf(0, even, BRANCHES)], [even]);
    const padded = buildBatch(config, [rowOf(1, even, BRANCHES), rowOf(0, odd, [[7]])], [odd, even]);
    expect(uniform.visionKind).toBe('uniform');
    expect(padded.visionKind).toBe('padded');
    const alone = await model.logProbs(uniform);
    const together = await model.logProbs(padded);
    expect(alone).toHaveLength(9);
    for (const [i, value] of alone.entries()) expect(together[i]).toBeCloseTo(value, 4);

    const gradientsOf = async (batch: typeof uniform) => {
      const weight = new Float32Array(batch.targets.length);
      weight.fill(0.1, 0, 9);
      const gradients = model.store.buffer();
      const inputs = { weight: { dtype: 'float32', shape: [weight.length], data: weight } } as const;
      await model.lossAndGradients(batch, WEIGHTED_NLL, inputs, gradients);
      return gradients;
    };
    const [a, b] = [await gradientsOf(uniform), await gradientsOf(padded)];
    const norm = await globalNorm(a);
    expect(norm).toBeGreaterThan(0);
    expect((await globalNorm(a.map((value, i) => value - b[i]!))) / norm).toBeLessThan(1e-4);
  });
});
