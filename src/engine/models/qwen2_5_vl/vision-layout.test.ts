import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { parseConfig } from './config.ts';
import { type ImageGrid, imageTokens, visionLayout } from './vision-layout.ts';

const fixture = (path: string) =>
  fileURLToPath(new URL(`../../../../test/fixtures/qwen2_5_vl/${path}`, import.meta.url));
const configOf = (model: string) => parseConfig(JSON.parse(readFileSync(fixture(`${model}/config.json`), 'utf8')));

/** Made with transformers 5.17.0 (`vision_utils`, `Qwen2_5_VLVisionRotaryEmbedding`), torch 2.11.0, float32. */
const golden = JSON.parse(readFileSync(fixture('layout/expected.json'), 'utf8')) as {
  vision: {
    model: string;
    grids: ImageGrid[];
    window_index: number[];
    cu_window_seqlens: number[];
    cu_seqlens: number[];
    rows: number[];
    cos: number[];
    sin: number[];
  }[];
};

describe('visionLayout()', () => {
  describe.each(golden.vision)('of $grids for $model', (example) => {
    const config = configOf(example.model);
    const layout = visionLayout(example.grids, config);

    it('has the window order and segment bounds of transformers', () => {
      expect([...layout.windowIndex]).toEqual(example.window_index);
      expect([...layout.cuWindowSeqlens]).toEqual(example.cu_window_seqlens);
      expect([...layout.cuImageSeqlens]).toEqual(example.cu_seqlens);
    });

    it('has the rotary factors of transformers in window order', () => {
      const half = config.vision.headDim / 2;
      expect(layout.cos).toHaveLength(layout.patches * half);
      let worst = 0;
      example.rows.forEach((row, i) => {
        for (let j = 0; j < half; j++) {
          const cos = layout.cos[row * half + j]! - example.cos[i * half + j]!;
          const sin = layout.sin[row * half + j]! - example.sin[i * half + j]!;
          worst = Math.max(worst, Math.abs(cos), Math.abs(sin));
        }
      });
      expect(worst).toBeLessThan(2e-6);
    });

    it('has an inverse, and segment ids that agree with the bounds', () => {
      expect([...layout.windowIndex].map((unit) => layout.inverseIndex[unit])).toEqual([...layout.windowIndex.keys()]);
      const idsOf = (bounds: Int32Array) =>
        Array.from({ length: bounds.length - 1 }, (_, id) => new Array(bounds[id + 1]! - bounds[id]!).fill(id)).flat();
      expect([...layout.windowId]).toEqual(idsOf(layout.cuWindowSeqlens));
      expect([...layout.imageId]).toEqual(idsOf(layout.cuImageSeqlens));
      const unit = config.vision.spatialMergeSize ** 2;
      expect([...layout.patchIndex]).toEqual(
        example.window_index.flatMap((index) => Array.from({ length: unit }, (_, k) => index * unit + k)),
      );
    });
  });

  it('counts whole merged units on the side of a window', () => {
    const config = configOf('tiny_tied');
    const wider = { ...config, vision: { ...config.vision, windowSize: 83 } };
    expect(config.vision.windowSize).toBe(56);
    expect(visionLayout([[1, 10, 6]], wider)).toEqual(visionLayout([[1, 10, 6]], config));
  });

  it('refuses grids that are not made of whole merge units', () => {
    for (const grid of [
      [1, 3, 4],
      [1, 4, 5],
      [0, 4, 4],
      [1, 4, Number.NaN],
    ] as const) {
      expect(() => visionLayout([grid], configOf('tiny_tied'))).toThrow(
        expect.objectContaining({ code: 'SHAPE_MISMATCH' }),
      );
    }
  });

  it('is empty without images', () => {
    const layout = visionLayout([], configOf('tiny_tied'));
    expect(layout.patches).toBe(0);
    expect([...layout.cuWindowSeqlens]).toEqual([0]);
  });
});

describe('imageTokens()', () => {
  it('counts merged units', () => {
    expect(imageTokens([1, 6, 10], configOf('tiny_tied'))).toBe(15);
  });
});
