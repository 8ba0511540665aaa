/** FGVC-Aircraft: data/{variants,images_variant_*,images_family_*,images_manufacturer_*}.txt, data/images/<id>.jpg. */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { Fr1Error } from '../../errors/fr1-error.ts';
import { aircraftLabel } from '../labels.ts';
import type { Needs, SourceData, SourceImage } from '../source.ts';
import { findBase, readLines, readPairs, rowError } from '../text-lists.ts';

/** The lists that together are a split; the first choice whose files exist. */
const LISTS = { train: [['trainval'], ['train', 'val']], test: [['test']] } as const;

/** @throws DATA_UNREADABLE, DATA_ROW_INVALID */
export async function readAircraft(root: string, needs: Needs): Promise<SourceData> {
  const base = findBase(root, 'variants.txt', ['data', 'fgvc-aircraft-2013b/data'], 'FGVC-Aircraft');
  const variants = new Set((await readLines(path.join(base, 'variants.txt'))).map(({ text }) => text));
  const images: SourceImage[] = [];
  for (const split of ['train', 'test'] as const) {
    if (!needs[split]) continue;
    for (const [id, { value: variant, at }] of await readSplit(base, 'variant', split)) {
      if (!variants.has(variant)) throw rowError(at, `"${variant}" is not listed in variants.txt`);
      const name = `images/${id}.jpg`;
      const content = { kind: 'file', path: path.join(base, name), name } as const;
      images.push({ id, label: aircraftLabel(variant), split, content, at });
    }
  }
  const groups = await groupsOf(base, images, needs);
  return {
    name: 'fgvc-aircraft',
    superCategory: 'aircraft',
    classes: [...variants].map((variant) => {
      const label = aircraftLabel(variant);
      return { label, groups: groups.get(label) ?? [] };
    }),
    images,
  };
}

type Pairs = Awaited<ReturnType<typeof readPairs>>;

async function readSplit(base: string, level: string, split: keyof typeof LISTS): Promise<Pairs> {
  const fileOf = (list: string) => path.join(base, `images_${level}_${list}.txt`);
  const lists = LISTS[split].find((choice) => choice.every((list) => existsSync(fileOf(list))));
  if (lists === undefined) {
    throw new Fr1Error('DATA_UNREADABLE', `${fileOf(LISTS[split][0][0])} does not exist`, {
      hint: 'FGVC-Aircraft ships this list in its data folder; without images of that split set testImages: 0, or sftShots: 0 and rlShots: 0',
    });
  }
  const pairs = new Map();
  for (const list of lists) for (const [id, pair] of await readPairs(fileOf(list))) pairs.set(id, pair);
  return pairs;
}

/** Manufacturer and family by label, from the lists of images; empty where the lists are missing. */
async function groupsOf(base: string, images: readonly SourceImage[], needs: Needs): Promise<Map<string, string[]>> {
  const groups = new Map<string, string[]>();
  for (const level of ['manufacturer', 'family']) {
    if (!existsSync(path.join(base, `images_${level}_test.txt`))) continue;
    const groupOf = new Map<string, string>();
    for (const split of ['train', 'test'] as const) {
      if (!needs[split]) continue;
      for (const [id, { value }] of await readSplit(base, level, split)) groupOf.set(id, value);
    }
    const byLabel = new Map(images.map(({ id, label }) => [label, groupOf.get(id)]));
    for (const [label, group] of byLabel) {
      if (group !== undefined) groups.set(label, [...(groups.get(label) ?? []), group]);
    }
  }
  return groups;
}
