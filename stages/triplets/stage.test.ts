import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { readTripletData, writeDataset } from '../../src/artifacts/rows.ts';
import type { ImageRow } from '../../src/artifacts/types.ts';
import { loadImage } from '../../src/engine/image/load-image.ts';
import { openRuntime } from '../../src/engine/session/open-runtime.ts';
import type { Lease } from '../../src/pool/lease.ts';
import { fakeArtifact, fakeContext } from '../testing/fake-context.ts';
import { writeImage } from '../testing/images.ts';
import { leaseOf, writeSquare, writeTinyModel } from '../testing/tiny-model.ts';
import { mostSimilar } from './negative-classes.ts';
import type { TripletsOptions } from './options.ts';
import { tripletsStage } from './stage.ts';

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

async function imageData(
  shots: number,
  labels: readonly string[] = Object.keys(CLASSES),
  groups?: Readonly<Record<string, readonly string[]>>,
): Promise<ImageRow[]> {
  const rows = labels.flatMap((label) =>
    Array.from({ length: shots }, (_, shot): ImageRow => {
      const id = `${label.replace(' ', '-')}-${shot}`;
      const attributes = CLASSES[label as keyof typeof CLASSES];
      return { id, image: `images/${id}.png`, label, question: `Which bird is ${id}?`, attributes };
    }),
  );
  mkdirSync(path.join(folder, 'images'), { recursive: true });
  for (const row of rows) writeFileSync(path.join(folder, row.image), row.id);
  const info = {
    name: 'birds',
    superCategory: 'bird',
    split: 'train' as const,
    classes: labels,
    ...(groups && { groups }),
  };
  await writeDataset(folder, info, rows);
  return rows;
}

async function triplets(options: Partial<TripletsOptions> = {}, seed = 1, lease?: Lease) {
  using context = fakeContext(
    tripletsStage,
    { data: fakeArtifact('image-data', folder), ...options },
    { seed, ...(lease && { lease }) },
  );
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

  it('takes the negative from the class that shares most groups, as the data or a file tells', async () => {
    const groups = { 'Red Finch': ['a', 'x'], 'Green Finch': ['b', 'x'], 'Red Kite': ['a', 'y'] };
    await imageData(3, Object.keys(CLASSES), groups);
    const negativesOf = async (options: Partial<TripletsOptions>) => {
      const { rows } = await triplets({ negative: 'hierarchy', ...options });
      return new Set(rows.filter(({ label }) => label === 'Red Finch').map(({ negativeLabel }) => negativeLabel));
    };
    expect(await negativesOf({})).toEqual(new Set(['Red Kite']));
    const file = path.join(folder, 'groups.json');
    writeFileSync(file, JSON.stringify({ 'Red Finch': ['f'], 'Green Finch': ['f'], 'Red Kite': ['k'] }));
    expect(await negativesOf({ hierarchy: fakeArtifact('files', file) })).toEqual(new Set(['Green Finch']));
    writeFileSync(file, JSON.stringify({ 'Red Finch': ['f'] }));
    await expect(negativesOf({ hierarchy: fakeArtifact('files', file) })).rejects.toMatchObject({
      code: 'DATA_ROW_INVALID',
    });
    await imageData(3);
    await expect(negativesOf({})).rejects.toMatchObject({ code: 'DATA_INSUFFICIENT' });
  });

  it('prefers a class of the same group among those whose names are as near', async () => {
    const groups = { 'Red Finch': ['song'], 'Green Finch': ['song'], 'Red Kite': ['prey'] };
    await imageData(6, Object.keys(CLASSES), groups);
    const rowsFile = path.join(folder, 'rows.jsonl');
    // Without attributes `Red Finch` shares a word with either.
    const bare = readFileSync(rowsFile, 'utf8').replace(/,"attributes":\{[^}]*\}/g, '');
    writeFileSync(rowsFile, bare);
    const { rows } = await triplets();
    const negatives = rows.flatMap(({ label, negativeLabel }) => (label === 'Red Finch' ? [negativeLabel] : []));
    expect(new Set(negatives)).toEqual(new Set(['Green Finch']));
  });

  it('looks for groups in check', async () => {
    await imageData(2);
    const check = () =>
      tripletsStage.check!({
        name: 'triplets',
        options: { data: fakeArtifact('image-data', folder), negative: 'hierarchy', sizes: 'as-is', closedShare: 0 },
        provider: 'cpu',
        signal: new AbortController().signal,
        progress: () => undefined,
        problem: () => undefined,
        found: () => undefined,
        needsDisk: () => undefined,
      });
    await expect(check()).rejects.toMatchObject({ code: 'DATA_INSUFFICIENT' });
  });

  it('takes the negative from the class that looks most alike to a checkpoint', async () => {
    const rows = await imageData(2);
    const colours = { 'Red Finch': [200, 20, 20], 'Green Finch': [20, 200, 20], 'Red Kite': [190, 30, 20] } as const;
    for (const { image, label } of rows) {
      await writeSquare(path.join(folder, image), colours[label as keyof typeof colours]);
    }
    const runtime = await openRuntime();
    const model = path.join(folder, 'model');
    mkdirSync(model);
    await writeTinyModel(runtime, model);
    const options = { negative: 'embedding', model: fakeArtifact('checkpoint', model) } as const;
    const { rows: made } = await triplets(options, 1, leaseOf(runtime));
    const negatives = new Map(made.map(({ label, negativeLabel }) => [label, negativeLabel]));
    expect(negatives.get('Red Finch')).toBe('Red Kite');
    expect(negatives.get('Red Kite')).toBe('Red Finch');
  });

  it('Q23: resizes positives and negatives to their anchors on request, as the released code needs them', async () => {
    const rows = await imageData(3);
    for (const [i, { image }] of rows.entries())
      await writeImage(path.join(folder, image), image, 20 + 4 * (i % 3), 30);
    const sizesOf = async (sizes: TripletsOptions['sizes']) => {
      using context = fakeContext(tripletsStage, { data: fakeArtifact('image-data', folder), sizes });
      await tripletsStage.run(context);
      const output = context.outputs['data']!;
      const made = await readTripletData(output);
      const size = async (image: string) => {
        const { width, height } = await loadImage(path.join(output, image));
        return `${width} x ${height}`;
      };
      return await Promise.all(
        made.rows.map((row) => Promise.all([row.anchor, row.positive, row.negative].map((image) => size(image)))),
      );
    };
    for (const [anchor, positive, negative] of await sizesOf('anchor')) {
      expect([positive, negative]).toEqual([anchor, anchor]);
    }
    // Another image of the same class has another width here.
    expect((await sizesOf('as-is')).every(([anchor, positive]) => anchor !== positive)).toBe(true);
  });
});
