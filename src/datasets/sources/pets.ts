/** Oxford-IIIT Pet: annotations/{trainval,test}.txt with `<image> <class> <species> <breed>`, images/<image>.jpg. */
import path from 'node:path';
import { titleCase } from '../labels.ts';
import type { Needs, SourceData, SourceImage } from '../source.ts';
import { findBase, readLines, rowError } from '../text-lists.ts';

const LIST_OF = { train: 'trainval.txt', test: 'test.txt' } as const;
const SPECIES: Readonly<Record<string, string>> = { 1: 'cat', 2: 'dog' };

/** @throws DATA_UNREADABLE, DATA_ROW_INVALID */
export async function readPets(root: string, needs: Needs): Promise<SourceData> {
  const marker = needs.test ? LIST_OF.test : LIST_OF.train;
  const lists = findBase(root, marker, ['annotations', 'oxford-iiit-pet/annotations'], 'Oxford-IIIT Pet');
  const images: SourceImage[] = [];
  const classes = new Map<string, { label: string; groups: string[] }>();
  for (const split of ['train', 'test'] as const) {
    if (!needs[split]) continue;
    for (const { text, at } of await readLines(path.join(lists, LIST_OF[split]))) {
      const [, id, breed, classId, species] = /^((\S+)_\d+)\s+(\d+)\s+([12])\s+(\d+)$/.exec(text) ?? [];
      if (id === undefined || breed === undefined || classId === undefined) {
        throw rowError(at, 'it is not of the form "image class species breed"');
      }
      const label = titleCase(breed);
      const known = classes.get(classId);
      if (known !== undefined && known.label !== label) {
        throw rowError(at, `class ${classId} is "${label}" here and "${known.label}" on an earlier line`);
      }
      classes.set(classId, { label, groups: [SPECIES[species!]!] });
      const name = `images/${id}.jpg`;
      images.push({ id, label, split, content: { kind: 'file', path: path.join(lists, '..', name), name }, at });
    }
  }
  const inOrder = [...classes].sort(([a], [b]) => Number(a) - Number(b)).map(([, each]) => each);
  return { name: 'oxford-iiit-pet', superCategory: 'pet', classes: inOrder, images };
}
