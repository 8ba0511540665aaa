import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { readTripletData, writeDataset } from '../../src/artifacts/rows.ts';
import type { ImageRow } from '../../src/artifacts/types.ts';
import { fakeArtifact, fakeContext } from '../testing/fake-context.ts';
import type { TripletsOptions } from './options.ts';
import { mostSimilar, tripletsStage } from './stage.ts';

const CLASSES = {
  'Red Finch': { crown: 'red', tail: 'short', wings: 'grey' },
  'Green Finch': { crown: 'green', tail: 'short', wings: 'grey' },
  'Red Kite': { crown: 'red', tail: 'forked', wings: 'barred' },
} as const;

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'fr1-triplets-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

async function imageData(shots: number, labels: readonly string[] = Object.keys(CLASSES)): Promise<ImageRow[]> {
  const rows = labels.flatMap((label) =>
    Array.from({ length: shots }, (_, shot): ImageRow => {
      const id = `${label.replace(' ', '-')}-${shot}`;
      const attributes = CLASSES[label as keyof typeof CLASSES];
      return { id, image: `images/${id}.png`, label, question: `Which bird is ${id}?`, attributes };
    }),
  );
  mkdirSync(path.join(folder, 'images'), { recursive: true });
  for (const row of rows) writeFileSync(path.join(folder, row.image), row.id);
  const info = { name: 'birds', superCategory: 'bird', split: 'train' as const, classes: labels };
  await writeDataset(folder, info, rows);
  return rows;
}

async function triplets(options: Partial<TripletsOptions> = {}, seed = 1) {
  using context = fakeContext(tripletsStage, { data: fakeArtifact('image-data', folder), ...options }, { seed });
  const { metrics } = await tripletsStage.run(context);
  const output = context.outputs['data']!;
  const { rows, info } = await readTripletData(output);
  const shown = (image: string) => readFileSync(path.join(output, image), 'utf8');
  return { rows, info, metrics, shown: rows.map((row) => [row.anchor, row.positive, row.negative].map(shown)) };
}

describe('triplets', () => {
  it('gives every image a positive of its class that is another image, and a negative of another class', async () => {
    const images = await imageData(5);
    const { rows, shown, metrics, info } = await triplets({ negative: 'random' });
    expect(rows.map((row) => [row.id, row.label, row.question])).toEqual(
      images.map((row) => [row.id, row.label, row.question]),
    );
    const labelOf = new Map(images.map((row) => [row.id, row.label]));
    rows.forEach((row, i) => {
      const [anchor, positive, negative] = shown[i]!;
      expect(anchor).toBe(row.id);
      expect(positive).not.toBe(anchor);
      expect(labelOf.get(positive!)).toBe(row.label);
      expect(labelOf.get(negative!)).toBe(row.negativeLabel);
      expect(row.negativeLabel).not.toBe(row.label);
    });
    expect(metrics).toEqual({ triplets: { value: 15 }, classes: { value: 3 } });
    expect(info.rows).toBe(15);
    const negativesOfFinch = rows.filter((row) => row.label === 'Red Finch').map((row) => row.negativeLabel);
    expect(new Set(negativesOfFinch).size).toBe(2);
  });

  it('offers options in the share asked for: the label among the nearest classes, at no fixed place', async () => {
    const labels = [...Object.keys(CLASSES), 'Blue Owl', 'Grey Owl'];
    await imageData(20, labels);
    const { rows } = await triplets({ closedShare: 0.5 });
    const offered = rows.flatMap(({ label, options }) => (options ? [{ label, options }] : []));
    expect(offered.length).toBeGreaterThan(30);
    expect(offered.length).toBeLessThan(70);
    for (const { label, options } of offered) {
      expect(new Set(options).size).toBe(4);
      expect(options).toContain(label);
    }
    expect(new Set(offered.map(({ label, options }) => options.indexOf(label))).size).toBe(4);
    expect((await triplets()).rows.some((row) => row.options)).toBe(false);
  });

  it('cannot offer four options of three classes', async () => {
    await imageData(2);
    await expect(triplets({ closedShare: 0.1 })).rejects.toMatchObject({ code: 'DATA_INSUFFICIENT' });
  });

  it('takes the negative from the class with the fewest differing attributes', async () => {
    await imageData(5);
    const { rows } = await triplets();
    const negatives = (label: string) => new Set(rows.filter((row) => row.label === label).map((r) => r.negativeLabel));
    expect(negatives('Red Finch')).toEqual(new Set(['Green Finch']));
    expect(negatives('Green Finch')).toEqual(new Set(['Red Finch']));
    expect(negatives('Red Kite')).toEqual(new Set(['Red Finch']));
  });

  it('compares the words of names where attributes are unknown', () => {
    const row = (label: string): [string, ImageRow[]] => [label, [{ id: label, image: '', label, question: '' }]];
    const byClass = new Map(['House Finch', 'Purple_Finch', 'House Wren', 'Gull'].map(row));
    expect(mostSimilar('House Finch', byClass)).toEqual(['Purple_Finch', 'House Wren']);
    expect(mostSimilar('House Wren', byClass)).toEqual(['House Finch']);
  });

  it('is fixed by its seed', async () => {
    await imageData(5);
    const [first, second, other] = [await triplets(), await triplets(), await triplets({}, 2)];
    expect(second.rows).toEqual(first.rows);
    expect(other.rows).not.toEqual(first.rows);
  });

  it('refuses data with one image of a class or with one class', async () => {
    await imageData(1);
    await expect(triplets()).rejects.toMatchObject({ code: 'DATA_INSUFFICIENT' });
    await imageData(5, ['Red Finch']);
    await expect(triplets()).rejects.toMatchObject({ code: 'DATA_INSUFFICIENT' });
  });
});
