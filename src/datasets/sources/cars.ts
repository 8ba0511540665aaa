/**
 * Stanford Cars-196: devkit/cars_meta.mat, devkit/cars_train_annos.mat, cars_test_annos_withlabels.mat (in the devkit or
 * beside it), cars_train/<file>, cars_test/<file>. Both image folders number their files from 00001.jpg.
 */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { Fr1Error } from '../../errors/fr1-error.ts';
import { plainName } from '../labels.ts';
import { MatLists } from '../mat-lists.ts';
import type { Needs, SourceData, SourceImage } from '../source.ts';
import { findBase } from '../text-lists.ts';

/** @throws DATA_UNREADABLE, DATA_ROW_INVALID */
export async function readCars(root: string, needs: Needs): Promise<SourceData> {
  const devkit = findBase(
    root,
    'cars_meta.mat',
    ['devkit', 'stanford_cars/devkit', 'car_devkit/devkit'],
    'Stanford Cars',
  );
  const home = path.basename(devkit) === 'devkit' ? path.dirname(devkit) : devkit;
  const names = (await MatLists.open(path.join(devkit, 'cars_meta.mat'))).texts('class_names').map(plainName);
  const images: SourceImage[] = [];
  if (needs.train)
    images.push(...(await readAnnotations(path.join(devkit, 'cars_train_annos.mat'), 'train', home, names)));
  if (needs.test) images.push(...(await readAnnotations(testAnnotations(devkit, home), 'test', home, names)));
  return {
    name: 'stanford-cars',
    superCategory: 'car',
    // The make is the first word of the name.
    classes: names.map((label) => ({ label, groups: [label.split(' ')[0]!] })),
    images,
  };
}

function testAnnotations(devkit: string, home: string): string {
  const name = 'cars_test_annos_withlabels.mat';
  const file = [devkit, home].map((folder) => path.join(folder, name)).find((each) => existsSync(each));
  if (file !== undefined) return file;
  throw new Fr1Error('DATA_UNREADABLE', `${path.join(home, name)} does not exist`, {
    hint: 'the test file of the devkit has no labels; fetch the one with labels, take the test images from fine-r1-eval, or set testFraction',
  });
}

async function readAnnotations(
  file: string,
  split: 'train' | 'test',
  home: string,
  names: readonly string[],
): Promise<SourceImage[]> {
  const lists = await MatLists.open(file);
  return lists.structs('annotations').map(({ class: classId, fname }, index): SourceImage => {
    if (fname?.kind !== 'text' || classId?.kind !== 'numbers') {
      throw lists.rowError('annotations', index, 'it has no "fname" or no "class"');
    }
    const label = names[classId.values[0]! - 1];
    if (label === undefined) throw lists.rowError('annotations', index, `there is no class ${classId.values[0]}`);
    const name = `cars_${split}/${fname.text}`;
    return {
      id: `${split}-${path.parse(fname.text).name}`,
      label,
      split,
      content: { kind: 'file', path: path.join(home, name), name },
    };
  });
}
