import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { loadImage } from '../../image/load-image.ts';
import { openSafetensors } from '../../weights/safetensors.ts';
import {
  budgetedSizes,
  fitBudget,
  fittedSize,
  imageGrid,
  parseImageSettings,
  processImage,
  smartResize,
} from './image-processor.ts';

const fixture = (name: string) =>
  fileURLToPath(new URL(`../../../../test/fixtures/image_processing/${name}`, import.meta.url));

/** Made with Qwen2VLImageProcessor of transformers 5.17.0 (torchvision, bicubic with antialias); rows are a selection. */
const golden = JSON.parse(readFileSync(fixture('expected.json'), 'utf8')) as Record<
  string,
  { min_pixels: number; max_pixels: number; grid: number[]; every_row: number }
>;
const expectedPixels = openSafetensors(fixture('expected.safetensors'));

describe('processImage()', () => {
  it.each(Object.keys(golden))('equals transformers on %s', async (name) => {
    const { min_pixels, max_pixels, grid, every_row } = golden[name]!;
    const settings = parseImageSettings({ min_pixels, max_pixels });
    const image = await loadImage(fixture(`${name.split('.')[1]}.png`));
    const result = processImage(image, settings);
    expect(result.grid).toEqual(grid);
    expect(imageGrid(image.height, image.width, settings)).toEqual(grid);
    const { data, shape } = expectedPixels.readFloat32(name);
    const width = shape[1]!;
    expect(result.pixels).toHaveLength(grid.reduce((a, b) => a * b) * width);
    let worst = 0;
    for (let row = 0; row < shape[0]!; row++) {
      for (let i = 0; i < width; i++) {
        const difference = Math.abs(result.pixels[row * every_row * width + i]! - data[row * width + i]!);
        worst = Math.max(worst, difference);
      }
    }
    expect(worst).toBeLessThan(1e-6);
  });
});

describe('smartResize()', () => {
  it.each([
    // height, width, factor, min, max -> transformers' smart_resize
    [200, 300, 28, 3136, 12845056, 196, 308],
    [42, 70, 28, 3136, 12845056, 56, 56], // 1.5 and 2.5 units: ties to even
    [10, 10, 28, 3136, 12845056, 56, 56], // rounds to 0 before the budget lifts it
    [3000, 4000, 28, 3136, 1003520, 840, 1148],
    [28, 5600, 28, 3136, 50176, 28, 3164],
    [5, 1000, 28, 3136, 1003520, 28, 812],
  ])('turns %i x %i (factor %i, %i..%i) into %i x %i', (height, width, factor, min, max, h, w) => {
    expect(smartResize(height, width, factor, min, max)).toEqual({ height: h, width: w });
  });

  it('refuses extreme shapes', () => {
    expect(() => smartResize(1, 201, 28, 3136, 12845056)).toThrow(
      expect.objectContaining({ code: 'IMAGE_UNREADABLE' }),
    );
    expect(() => smartResize(0, 10, 28, 3136, 12845056)).toThrow(expect.objectContaining({ code: 'IMAGE_UNREADABLE' }));
  });
});

/** Pixel budgets of Fine-R1's two trainers; only the first stretches narrow images. */
const BUDGETS = {
  sft: { minPixels: 1024, maxPixels: 589_824, stretchesNarrow: true },
  tapo: { minPixels: 200_704, maxPixels: 1_003_520 },
};

describe('budgetedSizes()', () => {
  // Worked out in Python by the rules of both trainers, then transformers' smart_resize.
  it.each([
    // height, width, trainer -> height, width, rows and columns of patches
    [800, 1000, 'sft', 686, 858, 48, 62],
    [767, 767, 'sft', 767, 767, 54, 54],
    [768, 768, 'sft', 768, 768, 54, 54],
    [754, 782, 'sft', 754, 782, 54, 56],
    [20, 20, 'sft', 32, 32, 4, 4],
    [40, 30, 'sft', 40, 30, 6, 4],
    [30, 8000, 'sft', 30, 5400, 2, 386],
    [2000, 5, 'sft', 2000, 28, 142, 2],
    [20, 6000, 'sft', 28, 5040, 2, 360],
    [375, 500, 'tapo', 387, 517, 28, 36],
    [4000, 3000, 'tapo', 1156, 867, 82, 62],
    [400, 300, 'tapo', 517, 387, 36, 28],
    [1002, 1002, 'tapo', 1001, 1001, 72, 72],
    [448, 448, 'tapo', 448, 448, 32, 32],
  ] as const)('fits %i x %i for %s into %i x %i, which the model cuts into %i x %i', (...example) => {
    const [height, width, trainer, h, w, rows, columns] = example;
    const size = fittedSize(height, width, BUDGETS[trainer]);
    expect(size).toEqual({ height: h, width: w });
    const settings = parseImageSettings({ min_pixels: 3136, max_pixels: 12_845_056 });
    expect(imageGrid(size.height, size.width, settings)).toEqual([1, rows, columns]);
  });

  it('resizes one after the other, as the trainers do', () => {
    expect(budgetedSizes(2, 3, BUDGETS.sft)).toEqual([
      { height: 26, width: 39 },
      { height: 28, width: 39 },
    ]);
    expect(budgetedSizes(300, 400, BUDGETS.sft)).toEqual([]);
  });

  it('differs from a single resize into the budget', () => {
    const single = parseImageSettings({ min_pixels: 1024, max_pixels: 589_824 });
    expect(imageGrid(800, 1000, single)).toEqual([1, 48, 60]);
  });
});

describe('fitBudget()', () => {
  const source = { width: 40, height: 30, data: new Uint8Array(3600).fill(7) };

  it('resizes to the size of the budget, and leaves an image alone that has none or fits', () => {
    expect(fitBudget(source, { maxPixels: 300 })).toMatchObject({ width: 20, height: 15 });
    expect(fitBudget(source, BUDGETS.sft)).toBe(source);
    expect(fitBudget(source, { stretchesNarrow: true })).toBe(source);
  });
});

describe('parseImageSettings()', () => {
  it('reads both spellings of the pixel budget', () => {
    expect(parseImageSettings({ min_pixels: 3136, max_pixels: 12845056 })).toMatchObject({
      minPixels: 3136,
      maxPixels: 12845056,
    });
    const size = { shortest_edge: 784, longest_edge: 12544 };
    expect(parseImageSettings({ size, patch_size: 14, merge_size: 2 })).toMatchObject({
      minPixels: 784,
      maxPixels: 12544,
    });
    expect(parseImageSettings({ min_pixels: 1, size })).toMatchObject({ minPixels: 1, maxPixels: 12544 });
  });

  it('lists everything that it does not do', () => {
    const json = {
      min_pixels: 0,
      do_resize: false,
      resample: 2,
      rescale_factor: 0.5,
      image_mean: [0.5],
      image_std: [1, 0, 1],
    };
    expect(() => parseImageSettings(json, 'x.json')).toThrow(
      expect.objectContaining({
        code: 'TOKENIZER_INVALID',
        message: [
          'x.json cannot be used:',
          '  do_resize false is not supported',
          '  resample must be 3 (bicubic)',
          '  rescale_factor must be 1/255',
          '  min_pixels is 0, expected a whole number above 0',
          '  image_mean is [0.5], expected three numbers',
          '  image_std has a 0',
        ].join('\n'),
      }),
    );
    expect(() => parseImageSettings({ min_pixels: 9, max_pixels: 8 })).toThrow(/min_pixels 9 is above max_pixels 8/);
  });
});
