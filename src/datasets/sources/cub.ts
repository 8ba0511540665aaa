/** Caltech-UCSD Birds-200-2011: images/, images.txt, image_class_labels.txt, train_test_split.txt, classes.txt. */
import path from 'node:path';
import { Fr1Error } from '../../errors/fr1-error.ts';
import { birdLabel } from '../labels.ts';
import type { SourceData, SourceImage } from '../source.ts';
import { findBase, readPairs, rowError } from '../text-lists.ts';

/** @throws DATA_UNREADABLE, DATA_ROW_INVALID */
export async function readCub(root: string): Promise<SourceData> {
  const base = findBase(root, 'images.txt', ['CUB_200_2011'], 'CUB-200-2011');
  const read = (name: string) => readPairs(path.join(base, name));
  const [classes, files, classOf, isTrain] = await Promise.all(
    ['classes.txt', 'images.txt', 'image_class_labels.txt', 'train_test_split.txt'].map(read),
  );
  const labels = new Map([...classes!].map(([id, { value }]) => [id, birdLabel(value)]));
  const images = [...files!].map(([id, { value: file, at }]): SourceImage => {
    const label = labels.get(classOf!.get(id)?.value ?? '');
    if (label === undefined) throw rowError(at, `image ${id} has no known class in image_class_labels.txt`);
    const split = isTrain!.get(id)?.value;
    if (split !== '0' && split !== '1') throw rowError(at, `image ${id} has no 0 or 1 in train_test_split.txt`);
    const name = `images/${file}`;
    return {
      id: path.posix.basename(file, path.posix.extname(file)),
      label,
      split: split === '1' ? 'train' : 'test',
      content: { kind: 'file', path: path.join(base, name), name },
      at,
    };
  });
  if (images.length === 0) throw new Fr1Error('DATA_UNREADABLE', `${path.join(base, 'images.txt')} lists no images`);
  return {
    name: 'cub-200-2011',
    superCategory: 'bird',
    classes: [...labels.values()].map((label) => ({ label, groups: [label.split(' ').at(-1)!] })),
    images,
  };
}
