import { describe, expect, it } from 'vitest';
import { RandomStream } from '../random.ts';
import type { RgbImage } from './load-image.ts';
import { resizeBicubic, resizeBicubicAsPillow, resizeBilinear } from './resize.ts';

function image(width: number, height: number, value: (x: number, y: number, channel: number) => number): RgbImage {
  const data = new Uint8Array(width * height * 3);
  for (let i = 0; i < data.length; i++) {
    const pixel = Math.floor(i / 3);
    data[i] = value(pixel % width, Math.floor(pixel / width), i % 3);
  }
  return { width, height, data };
}

describe('resizeBicubic()', () => {
  it('keeps an image of the right size', () => {
    const random = new RandomStream(1, 'resize');
    const source = image(7, 5, () => random.integer(256));
    expect(resizeBicubic(source, 5, 7)).toBe(source);
  });

  it('keeps a plain colour at any size', () => {
    const source = image(37, 23, (_x, _y, channel) => [0, 128, 255][channel]!);
    for (const [height, width] of [
      [1, 1],
      [5, 9],
      [23, 100],
      [64, 64],
    ] as const) {
      const resized = resizeBicubic(source, height, width);
      expect([resized.height, resized.width]).toEqual([height, width]);
      expect([...resized.data]).toEqual([...image(width, height, (_x, _y, channel) => [0, 128, 255][channel]!).data]);
    }
  });

  it('stays within 0..255 where the kernel overshoots', () => {
    const edge = image(8, 1, (x) => (x < 4 ? 0 : 255));
    const row = [...resizeBicubic(edge, 1, 32).data].filter((_, i) => i % 3 === 0);
    expect(Math.min(...row)).toBe(0);
    expect(Math.max(...row)).toBe(255);
    expect(row).toEqual(row.toSorted((a, b) => a - b));
  });

  it('lets every pixel count when it shrinks', () => {
    const source = image(64, 64, (x, y) => ((x + y) % 2 === 0 ? 255 : 0));
    for (const level of resizeBicubic(source, 8, 8).data) expect(Math.abs(level - 127.5)).toBeLessThanOrEqual(1.5);
  });

  it('commutes with mirroring', () => {
    const random = new RandomStream(2, 'resize');
    const source = image(19, 11, () => random.integer(256));
    const at = ({ data, width }: RgbImage, x: number, y: number, c: number) => data[(y * width + x) * 3 + c]!;
    const mirrored = (it: RgbImage) => image(it.width, it.height, (x, y, c) => at(it, it.width - 1 - x, y, c));
    expect(resizeBicubic(mirrored(source), 28, 8)).toEqual(mirrored(resizeBicubic(source, 28, 8)));
  });

  it('refuses impossible sizes', () => {
    for (const size of [0, -3, 1.5, Number.NaN]) {
      expect(() =>
        resizeBicubic(
          image(2, 2, () => 0),
          size,
          2,
        ),
      ).toThrow(expect.objectContaining({ code: 'SHAPE_MISMATCH' }));
    }
  });
});

const EXPECTED_BILINEAR = [
  96, 130, 145, 137, 138, 147, 139, 142, 130, 127, 113, 103, 132, 140, 115, 147, 128, 120, 141, 113, 139, 125, 130, 131,
  120, 170, 125, 149, 114, 144, 126, 131, 135, 143, 98, 148,
];

describe('resizeBilinear()', () => {
  it('gives what torch 2.11 gives for uint8, antialiased', () => {
    const source = image(9, 6, (x, y, channel) => (x * 37 + y * 91 + channel * 50 + x * y * 13) % 256);
    expect([...resizeBilinear(source, 3, 4).data]).toEqual(EXPECTED_BILINEAR);
  });
});

const EXPECTED_PILLOW = [
  91, 129, 147, 137, 141, 149, 140, 145, 133, 128, 110, 97, 135, 139, 113, 148, 131, 113, 142, 104, 141, 123, 136, 133,
  118, 177, 125, 150, 108, 147, 123, 133, 134, 146, 94, 150,
];
const EXPECTED_PILLOW_ROW = [
  0, 43, 93, 12, 62, 111, 40, 90, 143, 65, 114, 178, 90, 149, 204, 119, 179, 238, 154, 204, 254, 180, 248, 82, 217, 158,
  15, 217, 1, 61, 34, 28, 96, 0, 70, 127, 32, 96, 145,
];

describe('resizeBicubicAsPillow()', () => {
  it('gives what Pillow 13 gives, smaller and larger', () => {
    const source = image(9, 6, (x, y, channel) => (x * 37 + y * 91 + channel * 50 + x * y * 13) % 256);
    expect([...resizeBicubicAsPillow(source, 3, 4).data]).toEqual(EXPECTED_PILLOW);
    expect([...resizeBicubicAsPillow(source, 8, 13).data.subarray(0, 39)]).toEqual(EXPECTED_PILLOW_ROW);
  });
});
