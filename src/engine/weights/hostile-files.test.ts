/** The first of the hostile files that `npm run test:fuzz` reads. */
import { expect, it } from 'vitest';
import { readHostileImages, readHostileSafetensors } from '../../../test/helpers/read-hostile-files.ts';
import { temporaryFolder } from '../../../test/helpers/temporary-folder.ts';

it('reads or refuses safetensors files with hostile headers', async () => {
  const { wrong, opened, refused } = await readHostileSafetensors(500, await temporaryFolder());
  expect(wrong).toEqual([]);
  expect(Math.min(opened, refused)).toBeGreaterThan(0);
});

it('reads or refuses hostile images', async () => {
  const { wrong, opened, refused } = await readHostileImages(60);
  expect(wrong).toEqual([]);
  expect(Math.min(opened, refused)).toBeGreaterThan(0);
});
