/** Content hashes of the images of test items that other stages made: the option `notIn`. */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { readEvalData } from '../../src/artifacts/eval-data.ts';
import { inParallel } from '../../src/datasets/image-store.ts';
import type { StageContext } from '../../src/run/stage-api.ts';
import type { DatasetOptions } from './options.ts';

const READS_AT_ONCE = 8;

/** @throws DATA_UNREADABLE, DATA_ROW_INVALID for faulty test items */
export async function hashesOfTests({
  options: { notIn = [] },
  signal,
}: Pick<StageContext<DatasetOptions>, 'options' | 'signal'>): Promise<Set<string>> {
  const hashes = new Set<string>();
  for (const { path: folder } of notIn) {
    const { rows } = await readEvalData(folder);
    const images = [...new Set(rows.map(({ image }) => image))];
    await inParallel(images, READS_AT_ONCE, async (image) => {
      signal.throwIfAborted();
      hashes.add(
        createHash('sha256')
          .update(await readFile(path.join(folder, image)))
          .digest('hex'),
      );
    });
  }
  return hashes;
}
