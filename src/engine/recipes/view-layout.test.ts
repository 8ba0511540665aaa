import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fixture } from '../../../test/helpers/fixtures.ts';
import { bareSource } from '../../../test/helpers/session-source.ts';
import type { ImagePatches } from '../generate/types.ts';
import { buildBatch } from '../models/qwen2_5_vl/batch.ts';
import { TrainingModel } from '../models/qwen2_5_vl/training-model.ts';
import { RandomStream } from '../random.ts';
import { openRuntime } from '../session/open-runtime.ts';
import type { Runtime } from '../session/runtime.ts';
import { openCheckpoint } from '../weights/checkpoint.ts';
import type { Prompt } from './tapo.ts';
import { fitsLayout, inLayoutOf } from './view-layout.ts';

type Grid = ImagePatches['grid'];

let runtime: Runtime;
let model: TrainingModel;
beforeAll(async () => {
  runtime = await openRuntime({ threads: 1 });
  const checkpoint = openCheckpoint(fixture('qwen2_5_vl', 'tiny_tied'));
  model = new TrainingModel(bareSource(runtime), checkpoint.config);
  for (const { name } of checkpoint.parameters) checkpoint.readFloat32(name, model.store.tensor(name).data);
});
afterAll(async () => {
  await model.release();
  await runtime.close();
});

function promptAbout(name: string, grid: Grid): Prompt {
  const stream = new RandomStream('picture', name);
  const patches = grid[1] * grid[2];
  const { imageTokenId, visionStartTokenId, visionEndTokenId } = model.config;
  const units = new Array<number>(patches / 4).fill(imageTokenId);
  return {
    inputIds: Int32Array.of(5, visionStartTokenId, ...units, visionEndTokenId, 9, 10),
    images: [{ grid, pixels: Float32Array.from({ length: patches * 1176 }, () => stream.normal()) }],
  };
}

async function logProbsOf({ inputIds, images, grids }: Prompt, answer: readonly number[]): Promise<number[]> {
  const row = { prefix: inputIds, images: [0], ...(grids && { grids }), branches: [{ ids: answer }] };
  return [...(await model.logProbs(buildBatch(model.config, [row], images)))];
}

describe('inLayoutOf()', () => {
  // transformers 5.17, torch 2.11, float32, eager: pixels and grid of the image, positions from get_rope_index with the other grid.
  it.each<[layout: string, grid: Grid, expected: readonly number[]]>([
    ['its own', [1, 6, 4], [-5.695158, -6.07225, -5.565833, -5.602618]],
    ['a turned anchor', [1, 4, 6], [-5.695459, -6.072969, -5.565893, -5.602514]],
    ['a flat anchor', [1, 2, 12], [-5.623275, -6.130789, -5.460945, -5.701993]],
  ])('scores an image in the layout of %s as transformers', async (_, grid, expected) => {
    const prompt = inLayoutOf(promptAbout('anchor', grid), promptAbout('shown', [1, 6, 4]));
    const logProbs = await logProbsOf(prompt, [12, 70, 33, 201]);
    for (const [i, value] of expected.entries()) expect(Math.abs(logProbs[i]! - value)).toBeLessThan(5e-6);
  });
});

describe('fitsLayout()', () => {
  it('wants as many patches, whatever their shape, image by image', () => {
    const shown = (...grids: Grid[]) => ({ images: grids.map((grid) => ({ grid, pixels: new Float32Array() })) });
    expect(fitsLayout(shown([1, 4, 6]), shown([1, 6, 4]))).toBe(true);
    expect(fitsLayout(shown([1, 4, 6]), shown([1, 4, 4]))).toBe(false);
    // The released code compares sums, by which these would pass.
    expect(fitsLayout(shown([1, 4, 4], [1, 4, 6]), shown([1, 4, 6], [1, 4, 4]))).toBe(false);
    expect(fitsLayout(shown([1, 4, 4]), shown([1, 4, 4], [1, 4, 4]))).toBe(false);
  });
});
