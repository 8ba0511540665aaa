/**
 * Stanford Cars-196, in either release. With a devkit: devkit/cars_meta.mat, devkit/cars_train_annos.mat,
 * cars_test_annos_withlabels.mat (in the devkit or beside it), cars_train/<file>, cars_test/<file>; both image folders number
 * their files from 00001.jpg. In one piece: cars_annos.mat with names and labels of all, car_ims/<file>.
 */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { Fr1Error } from '../../errors/fr1-error.ts';
import { plainName } from '../labels.ts';
import type { MatValue } from '../mat-file.ts';
import { MatLists } from '../mat-lists.ts';
import type { Needs, SourceData, SourceImage } from '../source.ts';
import { findBase } from '../text-lists.ts';

const ALL_IN_ONE = 'cars_annos.mat';
const TRAIN_ANNOTATIONS = 'cars_train_annos.mat';
const TEST_ANNOTATIONS = 'cars_test_annos_withlabels.mat';

/** @throws DATA_UNREADABLE, DATA_ROW_INVALID */
export async function readCars(root: string, needs: Needs): Promise<SourceData> {
  const inside = ['devkit', 'stanford_cars/devkit', 'car_devkit/devkit'];
  const isWhole = existsSync(path.join(root, ALL_IN_ONE)) && !inside.some((name) => existsSync(path.join(root, name)));
  const { names, images } = isWhole ? await readWhole(root, needs) : await readDevkit(root, inside, needs);
  return {
    name: 'stanford-cars',
    superCategory: 'car',
    // The make is the first word of the name.
    classes: names.map((label) => ({ label, groups: [label.split(' ')[0]!] })),
    images,
  };
}

interface NamedImages {
  readonly names: readonly string[];
  readonly images: readonly SourceImage[];
}

async function readWhole(root: string, needs: Needs): Promise<NamedImages> {
  const lists = await MatLists.open(path.join(root, ALL_IN_ONE));
  const names = lists.texts('class_names').map(plainName);
  const images = lists.structs('annotations').flatMap((row, index): SourceImage[] => {
    const file = textOf(row['relative_im_path']);
    const isTest = numberOf(row['test']);
    if (file === undefined || isTest === undefined) {
      throw lists.rowError('annotations', index, 'it has no "relative_im_path" or no "test"');
    }
    const split = isTest === 1 ? 'test' : 'train';
    if (!needs[split]) return [];
    const label = labelOf(row, names, lists, index);
    const content = { kind: 'file', path: path.join(root, file), name: file } as const;
    return [{ id: `${split}-${path.parse(file).name}`, label, split, content }];
  });
  return { names, images };
}

async function readDevkit(root: string, inside: readonly string[], needs: Needs): Promise<NamedImages> {
  const devkit = findBase(root, 'cars_meta.mat', inside, 'Stanford Cars');
  const above = path.basename(devkit) === 'devkit' ? path.dirname(devkit) : devkit;
  // Some copies have a folder of its own around the devkit, but none around the images.
  const home =
    [above, root].find((each) => existsSync(path.join(each, `cars_${needs.test ? 'test' : 'train'}`))) ?? above;
  const names = (await MatLists.open(path.join(devkit, 'cars_meta.mat'))).texts('class_names').map(plainName);
  const images: SourceImage[] = [];
  const add = async (file: string, split: 'train' | 'test') => {
    const lists = await MatLists.open(file);
    for (const [index, row] of lists.structs('annotations').entries()) {
      const base = textOf(row['fname']);
      if (base === undefined) throw lists.rowError('annotations', index, 'it has no "fname"');
      const label = labelOf(row, names, lists, index);
      const name = `cars_${split}/${base}`;
      const content = { kind: 'file', path: path.join(home, name), name } as const;
      images.push({ id: `${split}-${path.parse(base).name}`, label, split, content });
    }
  };
  if (needs.train) await add(path.join(devkit, TRAIN_ANNOTATIONS), 'train');
  if (needs.test) await add(testAnnotations([devkit, home, root]), 'test');
  return { names, images };
}

function testAnnotations(folders: readonly string[]): string {
  const file = folders.map((folder) => path.join(folder, TEST_ANNOTATIONS)).find((each) => existsSync(each));
  if (file !== undefined) return file;
  throw new Fr1Error('DATA_UNREADABLE', `${path.join(folders[1]!, TEST_ANNOTATIONS)} does not exist`, {
    hint: 'the test file of the devkit has no labels; fetch the one with labels, take the test images from fine-r1-eval, or set testFraction',
  });
}

type Annotation = Readonly<Record<string, MatValue>>;

function labelOf(row: Annotation, names: readonly string[], lists: MatLists, index: number): string {
  const classId = numberOf(row['class']);
  if (classId === undefined) throw lists.rowError('annotations', index, 'it has no "class"');
  const label = names[classId - 1];
  if (label === undefined) throw lists.rowError('annotations', index, `there is no class ${classId}`);
  return label;
}

function textOf(value: MatValue | undefined): string | undefined {
  return value?.kind === 'text' ? value.text : undefined;
}

function numberOf(value: MatValue | undefined): number | undefined {
  return value?.kind === 'numbers' ? value.values[0] : undefined;
}
