/**
 * Oxford Flowers-102: imagelabels.mat, setid.mat, jpg/image_<number>.jpg. Its training and validation lists together are
 * the training split, as in Fine-R1; the names of the classes are in none of its files.
 */
import path from 'node:path';
import { MatLists } from '../mat-lists.ts';
import type { SourceData, SourceImage } from '../source.ts';
import { findBase } from '../text-lists.ts';
import { FLOWER_NAMES } from './flower-names.ts';

/** @throws DATA_UNREADABLE, DATA_ROW_INVALID */
export async function readFlowers(root: string): Promise<SourceData> {
  const base = findBase(root, 'imagelabels.mat', ['flowers-102', 'flowers102', 'flower102'], 'Oxford Flowers-102');
  const labelFile = await MatLists.open(path.join(base, 'imagelabels.mat'));
  const setFile = await MatLists.open(path.join(base, 'setid.mat'));
  const classIds = labelFile.numbers('labels');
  const images = [['trnid', 'train'] as const, ['valid', 'train'] as const, ['tstid', 'test'] as const].flatMap(
    ([list, split]) =>
      setFile.numbers(list).map((number, index): SourceImage => {
        const label = FLOWER_NAMES[(classIds[number - 1] ?? 0) - 1];
        if (label === undefined) throw setFile.rowError(list, index, `image ${number} has no known class`);
        const id = `image_${String(number).padStart(5, '0')}`;
        const name = `jpg/${id}.jpg`;
        return { id, label, split, content: { kind: 'file', path: path.join(base, name), name } };
      }),
  );
  return {
    name: 'oxford-flowers-102',
    superCategory: 'flower',
    classes: FLOWER_NAMES.map((label) => ({ label, groups: [] })),
    images,
  };
}
