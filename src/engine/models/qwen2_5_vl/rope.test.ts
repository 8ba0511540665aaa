import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { openSafetensors } from '../../weights/safetensors.ts';
import { parseConfig } from './config.ts';
import { mropeCosSin, mropePositions } from './rope.ts';
import type { ImageGrid } from './vision-layout.ts';

const fixture = (path: string) =>
  fileURLToPath(new URL(`../../../../test/fixtures/qwen2_5_vl/${path}`, import.meta.url));
const configOf = (model: string) => parseConfig(JSON.parse(readFileSync(fixture(`${model}/config.json`), 'utf8')));

/** Made with transformers 5.17.0 (`get_rope_index`, `Qwen2_5_VLRotaryEmbedding`), torch 2.11.0, float32. */
const golden = JSON.parse(readFileSync(fixture('layout/expected.json'), 'utf8')) as {
  text: { model: string; cos: number[]; sin: number[] }[];
  positions: {
    case: string;
    input_ids: number[][];
    attention_mask: number[][];
    grids: ImageGrid[];
    position_ids: number[][][];
    rope_deltas: number[];
  }[];
};

/** The integer tensor of a fixture, split into rows of its last axis. */
function rows(model: string, name: string): number[][] {
  const { data, shape } = openSafetensors(fixture(`${model}/expected.safetensors`)).read(name);
  const width = shape[shape.length - 1]!;
  const values = Array.from(data as BigInt64Array, Number);
  return Array.from({ length: values.length / width }, (_, i) => values.slice(i * width, (i + 1) * width));
}

function worstDifference(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  expect(actual.length).toBe(expected.length);
  let worst = 0;
  for (let i = 0; i < actual.length; i++) worst = Math.max(worst, Math.abs(actual[i]! - expected[i]!));
  return worst;
}

describe('mropePositions()', () => {
  it.each(['tiny_tied', 'tiny_untied'])('gives position_ids and rope_deltas of %s', (model) => {
    const grids = rows(model, 'image_grid_thw') as unknown as ImageGrid[];
    const result = mropePositions(rows(model, 'input_ids'), rows(model, 'attention_mask'), grids, configOf(model));
    expect([...result.positions]).toEqual(rows(model, 'position_ids').flat());
    expect([...result.deltas]).toEqual(rows(model, 'rope_deltas').flat());
  });

  it.each(golden.positions)('agrees with transformers on: $case', (example) => {
    const result = mropePositions(example.input_ids, example.attention_mask, example.grids, configOf('tiny_tied'));
    expect([...result.positions]).toEqual(example.position_ids.flat(2));
    expect([...result.deltas]).toEqual(example.rope_deltas);
    expect([result.batch, result.tokens]).toEqual([example.input_ids.length, example.input_ids[0]!.length]);
  });

  it('takes all tokens as real without a mask', () => {
    const config = configOf('tiny_tied');
    const ids = Int32Array.of(1, 316, 316, 316, 316, 316, 316, 2);
    const { positions, deltas } = mropePositions([ids], undefined, [[1, 4, 6]], config);
    expect([...positions]).toEqual([0, 1, 1, 1, 1, 1, 1, 4, 0, 1, 1, 1, 2, 2, 2, 4, 0, 1, 2, 3, 1, 2, 3, 4]);
    expect([...deltas]).toEqual([-3]);
  });

  it('fails when tokens and images do not fit', () => {
    const config = configOf('tiny_tied');
    const positions = (ids: number[], grids: ImageGrid[]) => () => mropePositions([ids], undefined, grids, config);
    const mismatch = expect.objectContaining({ code: 'IMAGE_COUNT_MISMATCH' });
    expect(positions([1, 316, 316], [[1, 4, 4]])).toThrow(mismatch);
    expect(positions([1, 316, 316, 2, 316, 316], [[1, 4, 4]])).toThrow('takes 4 tokens, row 0 has 2 for it');
    expect(positions([316, 316, 316, 316, 316], [[1, 4, 4]])).toThrow('more image tokens than its 1 images need');
    expect(positions([1, 2], [[1, 4, 4]])).toThrow(mismatch);
    expect(() => mropePositions([[1], [1, 2]], undefined, [], config)).toThrow(
      expect.objectContaining({ code: 'SHAPE_MISMATCH' }),
    );
  });
});

describe('mropeCosSin()', () => {
  it.each(golden.text)('agrees with transformers on $model', ({ model, cos, sin }) => {
    const result = mropeCosSin(rows(model, 'position_ids').flat(), configOf(model));
    expect(worstDifference(result.cos, cos)).toBeLessThan(2e-6);
    expect(worstDifference(result.sin, sin)).toBeLessThan(2e-6);
  });
});
