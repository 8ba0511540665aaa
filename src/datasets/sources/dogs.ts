/** Stanford Dogs-120: train_list.mat, test_list.mat (in lists/ or beside Images/), Images/<nID-name>/<file>. */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { dogLabel } from '../labels.ts';
import { MatLists } from '../mat-lists.ts';
import type { Needs, SourceData, SourceImage } from '../source.ts';
import { findBase } from '../text-lists.ts';

/** @throws DATA_UNREADABLE, DATA_ROW_INVALID */
export async function readDogs(root: string, needs: Needs): Promise<SourceData> {
  const lists = findBase(root, needs.test ? 'test_list.mat' : 'train_list.mat', ['lists'], 'Stanford Dogs');
  const above = path.basename(lists) === 'lists' ? path.dirname(lists) : lists;
  // Some copies have a folder of its own around the images.
  const home = existsSync(path.join(above, 'images', 'Images')) ? path.join(above, 'images') : above;
  const labels = new Map<number, string>();
  const images: SourceImage[] = [];
  for (const split of ['train', 'test'] as const) {
    if (!needs[split]) continue;
    const list = await MatLists.open(path.join(lists, `${split}_list.mat`));
    const classIds = list.numbers('labels');
    for (const [index, file] of list.texts('file_list').entries()) {
      const [folder, base] = file.split('/');
      const classId = classIds[index];
      if (folder === undefined || base === undefined || classId === undefined) {
        throw list.rowError('file_list', index, `"${file}" is not of the form "class/image", or has no label`);
      }
      const label = dogLabel(folder);
      if ((labels.get(classId) ?? label) !== label) {
        throw list.rowError(
          'file_list',
          index,
          `class ${classId} is "${label}" here and "${labels.get(classId)}" before`,
        );
      }
      labels.set(classId, label);
      const name = `Images/${file}`;
      const content = { kind: 'file', path: path.join(home, name), name } as const;
      images.push({ id: path.parse(base).name, label, split, content });
    }
  }
  const inOrder = [...labels].sort(([a], [b]) => a - b).map(([, label]) => ({ label, groups: [] }));
  return { name: 'stanford-dogs', superCategory: 'dog', classes: inOrder, images };
}
