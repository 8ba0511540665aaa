import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { crc32 } from 'node:zlib';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { imageSize, loadImage, type RgbImage } from './load-image.ts';

const fixture = (name: string) => fileURLToPath(new URL(`../../../test/fixtures/image_files/${name}`, import.meta.url));

/** Made with Pillow 13.0.0: `exif_transpose(image).convert('RGB')`; grey16.png by dividing by 257. */
const golden = JSON.parse(readFileSync(fixture('expected.json'), 'utf8')) as Record<
  string,
  { mode: string; width: number; height: number; rgb: number[] }
>;

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'fr1-image-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('loadImage()', () => {
  it.each(Object.entries(golden))('reads %s as Pillow does', async (name, { width, height, rgb }) => {
    const image = await loadImage(fixture(name));
    expect([image.width, image.height]).toEqual([width, height]);
    expect([...image.data]).toEqual(rgb);
  });

  it('reads bytes as well as files', async () => {
    const fromFile = await loadImage(fixture('colour.jpg'));
    const fromBytes = await loadImage(readFileSync(fixture('colour.jpg')));
    expect(fromBytes).toEqual(fromFile);
  });

  it('notices that a file has changed', async () => {
    const path = join(folder, 'changing.png');
    for (const name of ['grey.png', 'alpha.png']) {
      writeFileSync(path, readFileSync(fixture(name)));
      expect([...(await loadImage(path)).data]).toEqual(golden[name]!.rgb);
    }
  });

  it.each([
    ['a cut-off JPEG', () => readFileSync(fixture('colour.jpg')).subarray(0, -20), /premature end/],
    ['a cut-off PNG', () => readFileSync(fixture('alpha.png')).subarray(0, -60), /libpng read error/],
    ['text', () => Buffer.from('not an image'), /unsupported image format/],
    ['a web page', () => Buffer.from('\n<html>not found</html>'), /it is a web page/],
    ['an empty file', () => Buffer.alloc(0), /empty/],
  ])('names the file that holds %s', async (_, bytes, reason) => {
    const path = join(folder, 'broken.jpg');
    writeFileSync(path, bytes());
    await expect(loadImage(path)).rejects.toMatchObject({ code: 'IMAGE_UNREADABLE' });
    await expect(loadImage(path)).rejects.toThrow(path);
    await expect(loadImage(path)).rejects.toThrow(reason);
  });

  it('names a file that does not exist, and bytes by the given name', async () => {
    await expect(loadImage(join(folder, 'absent.png'))).rejects.toThrow(/absent\.png cannot be read .*ENOENT/);
    await expect(loadImage(Buffer.from('x'), 'row 7')).rejects.toThrow(/^row 7 cannot be read/);
  });

  describe('with more than 40 million pixels', () => {
    const WIDTH = 8001;
    const HEIGHT = 5200;
    const DRAWING = '<svg xmlns="http://www.w3.org/2000/svg" width="7000" height="7000"/>';
    /** Black with a white right half. */
    const halves = () =>
      sharp({ create: { width: 4001, height: HEIGHT, channels: 3, background: 'black' } }).extend({
        right: WIDTH - 4001,
        background: 'white',
      });
    const at = ({ width, data }: RgbImage, x: number, y: number) => [...data.subarray(3 * (y * width + x)).slice(0, 3)];

    it.each(['jpeg', 'png', 'webp', 'tiff'] as const)('reads %s at half its size', async (format) => {
      const path = join(folder, `large.${format}`);
      await halves().toFormat(format).toFile(path);
      expect(await imageSize(path)).toEqual({ width: 4000, height: 2600 });
      const image = await loadImage(path);
      expect([image.width, image.height]).toEqual([4000, 2600]);
      expect([at(image, 100, 2000), at(image, 3900, 10)]).toEqual([
        [0, 0, 0],
        [255, 255, 255],
      ]);
    });

    it('turns it as its EXIF data say', async () => {
      const turned = await halves().withMetadata({ orientation: 6 }).jpeg().toBuffer();
      const image = await loadImage(turned);
      expect([image.width, image.height]).toEqual([2600, 4000]);
      expect([at(image, 10, 100), at(image, 10, 3900)]).toEqual([
        [0, 0, 0],
        [255, 255, 255],
      ]);
    });

    it.each([
      [
        'a PNG of 1,600 million',
        () => overstatedPng(40_000, 0),
        /40000 x 40000 pixels are more than the 268\.4 million/,
      ],
      ['an interlaced PNG', () => overstatedPng(12_000, 1), /more than the 110\.0 million that fit into memory/],
      ['a drawing', () => Buffer.from(DRAWING), /more than the 20\.0 million .* \(svg\)/],
    ])('refuses %s before decoding it, and says what to do', async (_, bytes, reason) => {
      await expect(loadImage(bytes())).rejects.toMatchObject({
        code: 'IMAGE_UNREADABLE',
        message: expect.stringMatching(reason),
        hint: expect.stringContaining('resize'),
      });
    });
  });

  /** Width, height and interlacing of the IHDR chunk, then its checksum; colours instead of grey. */
  function overstatedPng(side: number, interlaced: 0 | 1): Buffer {
    const png = readFileSync(fixture('grey.png'));
    png.writeUInt32BE(side, 16);
    png.writeUInt32BE(side, 20);
    png[25] = 2;
    png[28] = interlaced;
    png.writeUInt32BE(crc32(png.subarray(12, 29)), 29);
    return png;
  }
});
