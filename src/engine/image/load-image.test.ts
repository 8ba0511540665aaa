import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { crc32 } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadImage } from './load-image.ts';

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
    ['text', () => Buffer.from('<html>not found</html>'), /unsupported image format/],
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

  it('refuses an image of too many pixels before decoding it', async () => {
    const bomb = readFileSync(fixture('grey.png'));
    bomb.writeUInt32BE(20_000, 16); // width and height of the IHDR chunk, then its checksum
    bomb.writeUInt32BE(10_000, 20);
    bomb.writeUInt32BE(crc32(bomb.subarray(12, 29)), 29);
    await expect(loadImage(bomb)).rejects.toThrow(/pixel limit/);
  });
});
