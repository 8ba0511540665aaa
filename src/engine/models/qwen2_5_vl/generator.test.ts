/**
 * Greedy tokens against transformers 5.17 / torch 2.11 in float32 (test/fixtures/qwen2_5_vl): 16 tokens, no end of
 * sequence, no repetition penalty. The batch there is left-padded; here prompts are given without padding.
 */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fixture } from '../../../../test/helpers/fixtures.ts';
import { bareSource } from '../../../../test/helpers/session-source.ts';
import type { GenerationRequest, ImagePatches, SamplingOptions } from '../../generate/types.ts';
import { openRuntime } from '../../session/open-runtime.ts';
import type { Runtime } from '../../session/runtime.ts';
import { openCheckpoint } from '../../weights/checkpoint.ts';
import { openSafetensors } from '../../weights/safetensors.ts';
import { buildBatch } from './batch.ts';
import { createGenerator, type GeneratorOptions } from './generator.ts';
import { TrainingModel } from './training-model.ts';

const CASES = ['tiny_tied', 'tiny_untied'] as const;

function numbers(path: string, name: string): number[] {
  return Array.from(openSafetensors(path).read(name).data as ArrayLike<number | bigint>, Number);
}

function loaded(name: (typeof CASES)[number]) {
  const dir = fixture('qwen2_5_vl', name);
  const expected = join(dir, 'expected.safetensors');
  const checkpoint = openCheckpoint(dir);
  const { config } = checkpoint;
  const [rows, tokens] = openSafetensors(expected).info('input_ids').shape as [number, number];
  const ids = numbers(expected, 'input_ids');
  const mask = numbers(expected, 'attention_mask');
  const grids = numbers(expected, 'image_grid_thw');
  const pixels = openSafetensors(expected).readFloat32('pixel_values').data;
  const images: ImagePatches[] = [];
  let patch = 0;
  for (let i = 0; i < grids.length; i += 3) {
    const grid = [grids[i]!, grids[i + 1]!, grids[i + 2]!] as const;
    const count = grid[0] * grid[1] * grid[2];
    images.push({ grid, pixels: pixels.subarray(patch * 1176, (patch + count) * 1176) });
    patch += count;
  }
  let image = 0;
  const requests = Array.from({ length: rows }, (_, b): GenerationRequest => {
    const own = ids.slice(b * tokens, (b + 1) * tokens).filter((_, t) => mask[b * tokens + t] === 1);
    const starts = own.filter((id, t) => id === config.imageTokenId && own[t - 1] !== config.imageTokenId);
    return { inputIds: Int32Array.from(own), images: starts.map(() => images[image++]!), seed: b };
  });
  const generated = numbers(join(dir, 'expected_generate.safetensors'), 'generated');
  const perRow = generated.length / rows;
  const greedy = requests.map((_, b) => generated.slice(b * perRow, (b + 1) * perRow));
  const weights = Object.fromEntries(checkpoint.parameters.map((p) => [p.name, checkpoint.readFloat32(p.name)]));
  return { config, checkpoint, requests, greedy, weights };
}

const GREEDY: SamplingOptions = {
  maxNewTokens: 16,
  temperature: 0,
  topP: 1,
  topK: 0,
  repetitionPenalty: 1,
  stopTokenIds: [],
  bannedTokenIds: [],
  samplesPerRequest: 1,
};
const SAMPLED: SamplingOptions = { ...GREEDY, temperature: 1 };

let runtime: Runtime;
beforeAll(async () => {
  runtime = await openRuntime({ threads: 2 });
});
afterAll(() => runtime.close());

function generator(name: (typeof CASES)[number], options: GeneratorOptions = {}) {
  const { config, weights } = loaded(name);
  return createGenerator(bareSource(runtime), config, weights, options);
}

describe.each(CASES)('%s', (name) => {
  it('gives the greedy tokens of transformers', async () => {
    const { requests, greedy } = loaded(name);
    const got = await generator(name).generate(requests, GREEDY, {});
    expect(got.map(([completion]) => completion!.tokenIds)).toEqual(greedy);
    expect(got.flat().map(({ finishReason }) => finishReason)).toEqual(['length', 'length']);
  });
});
