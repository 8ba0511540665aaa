/** Hostile weight files and images, in numbers; `npm test` reads the first of each. */
import { expect, it } from 'vitest';
import { readHostileImages, readHostileSafetensors } from '../helpers/read-hostile-files.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

const MIB = 1024 ** 2;

it('reads or refuses 10,000 safetensors files with hostile headers', async () => {
  const { wrong, opened, refused, growthBytes } = await readHostileSafetensors(10_000, await temporaryFolder());
  expect(wrong).toEqual([]);
  expect(opened).toBeGreaterThan(100);
  expect(refused).toBeGreaterThan(5000);
  expect(growthBytes / MIB).toBeLessThan(500);
});

it('reads or refuses 1,000 hostile images', async () => {
  const { wrong, opened, refused, growthBytes } = await readHostileImages(1000);
  expect(wrong).toEqual([]);
  expect(opened).toBeGreaterThan(50);
  expect(refused).toBeGreaterThan(300);
  expect(growthBytes / MIB).toBeLessThan(500);
});
