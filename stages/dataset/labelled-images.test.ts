import { cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { readEvalData } from '../../src/artifacts/eval-data.ts';
import { readImageData } from '../../src/artifacts/rows.ts';
import { loadImage } from '../../src/engine/image/load-image.ts';
import { openRuntime } from '../../src/engine/session/open-runtime.ts';
import type { Lease } from '../../src/pool/lease.ts';
import { temporaryFolder } from '../../test/helpers/temporary-folder.ts';
import { fakeArtifact, fakeContext } from '../testing/fake-context.ts';
import { writeImage } from '../testing/images.ts';
import { leaseOf, writeSquare, writeTinyModel } from '../testing/tiny-model.ts';
import type { DatasetOptions } from './options.ts';
import { datasetStage } from './stage.ts';

const LABELS = ['Red Finch', 'Green Finch', 'Blue Finch', 'Red Kite', 'Sea Gull', 'Marsh Wren'];

let photos: string;
beforeEach(async () => {
  photos = path.join(await temporaryFolder(), 'photos');
  for (const label of LABELS) {
    for (let i = 0; i < 5; i++) await writeImage(path.join(photos, label, `${i}.jpg`), `${label} ${i}`);
  }
});

const files = (folder: string) => fakeArtifact('files', folder);

async function make(options: Partial<DatasetOptions> = {}, seed = 1, lease?: Lease) {
  using context = fakeContext(
    datasetStage,
    { source: 'image-folder', root: files(photos), sftShots: 1, rlShots: 2, ...options },
    { seed, ...(lease && { lease }) },
  );
  const { metrics } = await datasetStage.run(context);
  const { sft, rl, seen, unseen } = context.outputs as Record<string, string>;
  const bytesOf = (folder: string, rows: readonly { image: string }[]) =>
    rows.map(({ image }) => readFileSync(path.join(folder, image)).toString('base64'));
  const data = {
    sft: await readImageData(sft!),
    rl: await readImageData(rl!),
    seen: await readEvalData(seen!),
    unseen: await readEvalData(unseen!),
  };
  return {
    ...data,
    metrics: Object.fromEntries(Object.entries(metrics!).map(([name, { value }]) => [name, value])),
    bytes: {
      training: [...bytesOf(sft!, data.sft.rows), ...bytesOf(rl!, data.rl.rows)],
      tests: [...bytesOf(seen!, data.seen.rows), ...bytesOf(unseen!, data.unseen.rows)],
    },
    info: JSON.parse(readFileSync(path.join(seen!, 'dataset.json'), 'utf8')) as Record<string, unknown>,
    warnings: context.warnings,
  };
}

describe('dataset of labelled images', () => {
  it('tells of classes that no score tells apart', async () => {
    const options = { seenFraction: 1, testImages: 0 } as const;
    expect((await make(options)).warnings).toEqual([]);
    for (let i = 0; i < 5; i++) await writeImage(path.join(photos, 'sea_gull', `${i}.jpg`), `other ${i}`);
    expect((await make(options)).warnings).toEqual([
      'the classes "Sea Gull" and "sea gull" have one name by the rules of scoring; `labelStyle: title` makes them one',
    ]);
    expect((await make({ ...options, labelStyle: 'title' })).warnings).toEqual([]);
  });

  it('splits 60 % of the classes off as seen, draws shots and keeps a fifth for tests', async () => {
    const { metrics, sft, rl, seen, unseen, info } = await make();
    expect(metrics).toEqual({
      seenClasses: 3,
      unseenClasses: 3,
      sftImages: 3,
      rlImages: 6,
      seenTestImages: 3,
      unseenTestImages: 3,
      leftOut: 0,
    });
    const labels = (rows: readonly { label: string }[]) => new Set(rows.map(({ label }) => label));
    expect(labels(sft.rows)).toEqual(labels(seen.rows));
    expect(labels(rl.rows)).toEqual(labels(seen.rows));
    expect(new Set([...labels(seen.rows), ...labels(unseen.rows)]).size).toBe(6);
    expect(info).toMatchObject({
      name: 'photos',
      choices: { similarity: 'names', optionPool: 6, optionOrder: 'shuffled' },
    });
    expect(seen.rows[0]!.question).toMatch(/object/);
  });

  it('never trains on an image of a test, whatever it is called, and on none twice', async () => {
    for (const label of LABELS) {
      cpSync(path.join(photos, label, '0.jpg'), path.join(photos, label, '5.jpg'));
      cpSync(path.join(photos, label, '1.jpg'), path.join(photos, label, '6.jpg'));
    }
    for (const seed of [1, 2, 3]) {
      const { bytes, metrics } = await make({ testFraction: 0.4, rlShots: 1 }, seed);
      expect(bytes.training.filter((each) => bytes.tests.includes(each))).toEqual([]);
      expect(new Set(bytes.training).size).toBe(bytes.training.length);
      expect(metrics['leftOut']).toBeGreaterThanOrEqual(0);
    }
    // Every image of a class is the same: nothing is left to train on.
    for (let i = 1; i < 7; i++)
      cpSync(path.join(photos, 'Red Finch', '0.jpg'), path.join(photos, 'Red Finch', `${i}.jpg`));
    const list = await temporaryFolder();
    writeFileSync(path.join(list, 'seen.txt'), 'Red Finch\n');
    writeFileSync(path.join(list, 'unseen.txt'), 'Sea Gull\n');
    await expect(make({ split: files(list) })).rejects.toMatchObject({
      code: 'DATA_INSUFFICIENT',
      message: expect.stringContaining('"Red Finch" has too few training images'),
    });
  });

  it('trains on no test image of another stage', async () => {
    using other = fakeContext(
      datasetStage,
      { source: 'image-folder', root: files(photos), sftShots: 0, rlShots: 0 },
      {},
    );
    await datasetStage.run(other);
    const tests = other.outputs['seen']!;
    const { rows } = await readEvalData(tests);
    const shown = rows.map(({ image }) => readFileSync(path.join(tests, image)).toString('base64'));
    const options = { testImages: 0, seenFraction: 1, sftShots: 0, rlShots: 4 };
    const { bytes, warnings } = await make({ ...options, notIn: [fakeArtifact('eval-data', tests)] }, 2);
    expect(bytes.training).toHaveLength(24);
    expect(bytes.training.filter((each) => shown.includes(each))).toEqual([]);
    expect((await make(options, 2)).bytes.training.some((each) => shown.includes(each))).toBe(true);
    expect(warnings.join()).toMatch(/training images are also test images/);
  });

  it('counts test images that repeat each other', async () => {
    expect((await make({ testFraction: 0.9, rlShots: 0, sftShots: 0 })).warnings).toEqual([]);
    for (const label of LABELS) cpSync(path.join(photos, label, '0.jpg'), path.join(photos, label, '1.jpg'));
    const { warnings } = await make({ testFraction: 0.9, rlShots: 0, sftShots: 0 });
    expect(warnings).toEqual([expect.stringMatching(/^[1-6] test images repeat another one/)]);
  });

  it('offers the classes that look most alike to a checkpoint with similarity: embedding', async () => {
    // By name each bird is nearest to its namesake of the other colour.
    const red = ['Tiny Finch', 'Sooty Gull', 'Marsh Wren', 'Snow Owl'];
    const green = ['Grand Finch', 'Ivory Gull', 'House Wren', 'Barn Owl'];
    const folder = await temporaryFolder();
    for (const label of [...red, ...green]) {
      for (let i = 0; i < 3; i++) {
        const shade = 10 * [...red, ...green].indexOf(label) + i;
        const colour = red.includes(label) ? ([240, 10, shade] as const) : ([10, 240, shade] as const);
        await writeSquare(path.join(folder, label, `${i}.png`), colour);
      }
    }
    const model = path.join(await temporaryFolder(), 'model');
    const options = { root: files(folder), optionPool: 3, rlShots: 1 } as const;
    const runtime = await openRuntime();
    try {
      mkdirSync(model);
      await writeTinyModel(runtime, model);
      const embedding = { similarity: 'embedding', model: fakeArtifact('checkpoint', model) } as const;
      const byLook = await make({ ...options, ...embedding }, 1, leaseOf(runtime));
      const offered = [...byLook.seen.rows, ...byLook.unseen.rows].map((row) => row.options.toSorted());
      expect(offered).toHaveLength(8);
      for (const list of offered) expect([red.toSorted(), green.toSorted()]).toContainEqual(list);
      expect(byLook.info).toMatchObject({ choices: { similarity: 'embedding', model: `sha256:${'0'.repeat(64)}` } });
    } finally {
      await runtime.close();
    }
    const byName = await make(options);
    for (const { label, options: list } of [...byName.seen.rows, ...byName.unseen.rows]) {
      const namesake = [...red, ...green].find((other) => other !== label && other.endsWith(label.split(' ')[1]!));
      expect(list).toContain(namesake);
    }
  });

  it('takes the classes of a list, and says which of them it lacks', async () => {
    const list = await temporaryFolder();
    writeFileSync(path.join(list, 'seen.txt'), 'Red Kite\nSea Gull\n');
    writeFileSync(path.join(list, 'unseen.txt'), 'Marsh Wren\n');
    const { sft, unseen } = await make({ split: files(list) });
    expect(sft.info.classes).toEqual(['Red Kite', 'Sea Gull']);
    expect(new Set(unseen.rows.map(({ label }) => label))).toEqual(new Set(['Marsh Wren']));
    writeFileSync(path.join(list, 'unseen.txt'), 'Marsh Wren\nDodo\n');
    await expect(make({ split: files(list) })).rejects.toMatchObject({ code: 'DATA_ROW_INVALID', at: { line: 2 } });
    writeFileSync(path.join(list, 'unseen.txt'), 'Red Kite\n');
    await expect(make({ split: files(list) })).rejects.toThrow('"Red Kite" as seen and as unseen');
  });

  it('Q1: offers the nearest classes by name, in any order, or label first as the released lists', async () => {
    const { seen, unseen } = await make({ optionPool: 3, testFraction: 0.6, sftShots: 1, rlShots: 1 });
    const rows = [...seen.rows, ...unseen.rows];
    for (const { label, options } of rows) {
      expect(new Set(options).size).toBe(4);
      if (label !== 'Red Finch') continue;
      // The two other finches and the other red one.
      expect(new Set(options)).toEqual(new Set(['Red Finch', 'Green Finch', 'Blue Finch', 'Red Kite']));
    }
    expect(new Set(rows.map(({ label, options }) => options.indexOf(label))).size).toBeGreaterThan(2);
    const first = await make({ optionOrder: 'label-first' });
    for (const { label, options } of [...first.seen.rows, ...first.unseen.rows]) expect(options[0]).toBe(label);
  });

  it('takes groups from a file', async () => {
    const file = path.join(await temporaryFolder(), 'groups.json');
    const groups = { 'Red Finch': ['a'], 'Sea Gull': ['a'], 'Red Kite': ['a'], 'Marsh Wren': ['a'] };
    writeFileSync(file, JSON.stringify({ 'Green Finch': ['b'], 'Blue Finch': ['b'], ...groups }));
    const options = { similarity: 'hierarchy', hierarchy: files(file), optionPool: 3 } as const;
    const { seen, unseen, sft } = await make(options);
    const row = [...seen.rows, ...unseen.rows].find(({ label }) => label === 'Red Finch')!;
    expect(new Set(row.options)).toEqual(new Set(Object.keys(groups)));
    expect(Object.keys(sft.info.groups!)).toEqual(sft.info.classes);
    await expect(make({ similarity: 'hierarchy' })).rejects.toMatchObject({ code: 'DATA_INSUFFICIENT' });
  });

  it('finds images elsewhere, and names or leaves out those that are missing', async () => {
    const lists = await temporaryFolder();
    const rows = LABELS.flatMap((label) =>
      Array.from({ length: 5 }, (_, i) => ({ image: `/data/birds/${label}/${i}.jpg`, label, id: `${label}-${i}` })),
    );
    const file = path.join(lists, 'rows.jsonl');
    writeFileSync(
      file,
      [...rows, { ...rows[0], id: 'gone', image: '/data/birds/gone.jpg' }].map((r) => JSON.stringify(r)).join('\n'),
    );
    const options = { source: 'jsonl', root: files(lists), images: { '/data/birds': files(photos) } } as const;
    await expect(make(options)).rejects.toMatchObject({
      code: 'DATA_ROW_INVALID',
      message: `image "gone": its file ${path.join(photos, 'gone.jpg')} does not exist`,
      at: { file, line: 31 },
    });
    const { metrics, warnings, seen } = await make({ ...options, missingImages: 'skip' });
    expect(metrics['leftOut']).toBe(1);
    expect(warnings[0]).toMatch(/^1 of 31 listed images do not exist/);
    expect(seen.rows[0]!.image).toMatch(/^images\/data\/birds\//);
    await expect(make({ ...options, images: { '/data/bird': files(photos) } })).rejects.toMatchObject({
      code: 'DATA_UNREADABLE',
      message: expect.stringContaining('"/data/bird"'),
    });
    await expect(make({ source: 'jsonl', root: files(lists), missingImages: 'skip' })).rejects.toMatchObject({
      code: 'DATA_ROW_INVALID',
      hint: expect.stringContaining('images:'),
    });
  });

  it('finds images whose ending is in other case, or whose folder was unpacked into one of its name', async () => {
    const lists = await temporaryFolder();
    const rows = LABELS.map((label) => ({ image: `${label}/9.jpg`, label }));
    writeFileSync(path.join(lists, 'rows.jsonl'), rows.map((row) => JSON.stringify(row)).join('\r\n'));
    for (const [i, label] of LABELS.entries()) {
      const file = i % 2 === 0 ? `${label}/9.JPG` : `${label}/${label}/9.jpg`;
      await writeImage(path.join(photos, file), label);
    }
    const options = { source: 'jsonl', root: files(lists), images: { '.': files(photos) }, seenFraction: 1 } as const;
    const { sft } = await make({ ...options, testImages: 0, rlShots: 0 });
    expect(sft.rows.map(({ image }) => image).sort()).toEqual(LABELS.map((label) => `images/${label}/9.jpg`).sort());
  });

  it('names the row of a file that is no image', async () => {
    for (let i = 0; i < 5; i++) writeFileSync(path.join(photos, 'Red Finch', `${i}.jpg`), 'not an image');
    await expect(make()).rejects.toMatchObject({
      code: 'DATA_ROW_INVALID',
      message: expect.stringMatching(/^image "Red Finch\/\d": .*cannot be read as an image/),
    });
  });

  describe('damaged images', () => {
    /** A test image that is cut off, an empty one for training, a web page and a PNG under another name. */
    async function damage() {
      const folder = path.join(photos, '..', 'mixed');
      for (const label of LABELS) {
        for (const split of ['train', 'test']) {
          for (let i = 0; i < 4; i++) {
            await writeImage(path.join(folder, split, label, `${i}.jpg`), `${split} ${label} ${i}`, 64, 48);
          }
        }
      }
      const cut = path.join(folder, 'test', 'Red Finch', '2.jpg');
      const whole = readFileSync(cut);
      writeFileSync(cut, whole.subarray(0, whole.length - 4));
      writeFileSync(path.join(folder, 'train', 'Sea Gull', '0.jpg'), '');
      writeFileSync(path.join(folder, 'test', 'Sea Gull', '0.jpg'), '<!DOCTYPE html>\n<title>404</title>');
      const png = path.join(photos, '..', 'other.png');
      await writeImage(png, 'png');
      cpSync(png, path.join(folder, 'train', 'Marsh Wren', '0.jpg'));
      return { root: files(folder), seenFraction: 1, sftShots: 1, rlShots: 3 } as const;
    }

    it('are told all at once, with the rows that list them', async () => {
      const options = await damage();
      await expect(make(options)).rejects.toMatchObject({
        code: 'DATA_ROW_INVALID',
        message: expect.stringMatching(
          /^image "test\/Red Finch\/2": .*2\.jpg cannot be read as an image: .*(premature end|cut off).*; 2 more: "test\/Sea Gull\/0", "train\/Sea Gull\/0"$/,
        ),
        hint: expect.stringContaining('damagedImages: skip'),
      });
      const lists = await temporaryFolder();
      const rows = ['0', '1', '2'].map((name) => ({ image: `test/Red Finch/${name}.jpg`, label: 'Red Finch' }));
      writeFileSync(path.join(lists, 'rows.jsonl'), rows.map((row) => JSON.stringify(row)).join('\n'));
      const listed = { source: 'jsonl', root: files(lists), images: { '.': options.root } } as const;
      const alone = { testImages: 0, sftShots: 1, rlShots: 2, seenFraction: 1 };
      await expect(make({ ...listed, ...alone })).rejects.toMatchObject({
        message: expect.stringContaining('premature end'),
        at: { file: path.join(lists, 'rows.jsonl'), line: 3 },
      });
    });

    it('are left out on request', async () => {
      const { metrics, warnings, seen, sft, rl } = await make({
        ...(await damage()),
        rlShots: 2,
        damagedImages: 'skip',
      });
      expect(metrics).toMatchObject({ seenTestImages: 22, sftImages: 6, rlImages: 12 });
      expect(metrics['leftOut']).toBeGreaterThanOrEqual(2);
      expect(warnings[0]).toMatch(/images are damaged and left out; the first: image "test\/Red Finch\/2"/);
      const used = [...seen.rows, ...sft.rows, ...rl.rows].map(({ id }) => id);
      expect(used).not.toContain('test/Sea Gull/0');
      expect(used).not.toContain('train/Sea Gull/0');
    });

    it('are kept as far as they can be decoded on request, so that later stages can read them', async () => {
      const options = await damage();
      await expect(make({ ...options, damagedImages: 'keep' })).rejects.toMatchObject({
        message: expect.stringContaining('it is a web page'),
        hint: expect.not.stringContaining('keep takes'),
      });
      for (const [split, label] of [
        ['train', 'Sea Gull'],
        ['test', 'Sea Gull'],
      ] as const) {
        await writeImage(path.join(options.root.path, split, label, '0.jpg'), 'mended by hand');
      }
      await writeImage(path.join(options.root.path, 'test', 'Sea Gull', '0.jpg'), 'mended by hand too');
      using context = fakeContext(datasetStage, { source: 'image-folder', ...options, damagedImages: 'keep' });
      await datasetStage.run(context);
      const folder = context.outputs['seen']!;
      const row = (await readEvalData(folder)).rows.find(({ id }) => id === 'test/Red Finch/2')!;
      expect(row.image).toBe('images/test/Red Finch/2.jpg.png');
      expect(await loadImage(path.join(folder, row.image))).toMatchObject({ width: 64, height: 48 });
      expect(context.warnings).toContain('1 images are damaged; what can be decoded of them is kept');
    });
  });

  it('gives the same rows and images for the same seed, and keeps the images of one use when the other changes', async () => {
    const [first, second, other] = [await make(), await make(), await make({}, 2)];
    expect(second).toEqual(first);
    expect(other.bytes).not.toEqual(first.bytes);
    const more = await make({ sftShots: 2 });
    expect(more.rl.rows).toEqual(first.rl.rows);
    expect(more.seen.rows).toEqual(first.seen.rows);
  });

  it('makes training data alone', async () => {
    const { metrics, seen } = await make({ testImages: 0, seenFraction: 1, sftShots: 2, rlShots: 3 });
    expect([metrics['seenClasses'], metrics['sftImages'], metrics['rlImages']]).toEqual([6, 12, 18]);
    expect(seen.rows).toEqual([]);
  });
});

describe('datasetStage.check', () => {
  async function check(options: Partial<DatasetOptions>) {
    const found: string[] = [];
    const problems: Error[] = [];
    await datasetStage.check!({
      name: 'photos',
      options: {
        ...{ source: 'image-folder', missingImages: 'fail', damagedImages: 'fail', root: files(photos) },
        ...options,
      },
      provider: 'cpu',
      signal: new AbortController().signal,
      progress: () => undefined,
      problem: (error) => problems.push(error),
      found: (message) => found.push(message),
      needsDisk: () => undefined,
    });
    return { found, problems: problems.map(({ message }) => message) };
  }

  it('tells classes and images, and classes with too few of them, without opening one', async () => {
    writeFileSync(path.join(photos, 'Red Finch', '0.jpg'), 'not an image');
    expect(await check({ rlShots: 3 })).toEqual({
      found: ['3 seen and 3 unseen classes, 30 images, 3 + 3 of them tests'],
      problems: [],
    });
    expect((await check({ rlShots: 4 })).problems[0]).toMatch(/^3 seen classes have fewer than 5 training images/);
    const rows = path.join(await temporaryFolder(), 'rows.jsonl');
    writeFileSync(rows, JSON.stringify({ image: 'gone.jpg', label: 'Red Finch' }));
    await expect(check({ source: 'jsonl', root: files(rows) })).rejects.toMatchObject({ code: 'DATA_ROW_INVALID' });
  });
});

describe('datasetStage.validate', () => {
  const problems = (options: Partial<DatasetOptions>) =>
    datasetStage.validate!({
      source: 'image-folder',
      missingImages: 'fail',
      damagedImages: 'fail',
      root: files('x'),
      ...options,
    } as DatasetOptions).map(({ pointer }) => pointer);

  it('refuses options that mean nothing for the source or exclude each other', () => {
    expect(problems({})).toEqual([]);
    expect(problems({ source: 'sharegpt', sftShots: 3 })).toEqual(['/sftShots']);
    expect(problems({ source: 'cub-200-2011', fields: {} })).toEqual(['/fields']);
    expect(problems({ seenClasses: 3, seenFraction: 0.5 })).toEqual(['/seenFraction']);
    expect(problems({ similarity: 'embedding' })).toEqual(['/similarity']);
    expect(problems({ hierarchy: files('x') })).toEqual(['/hierarchy']);
    expect(
      datasetStage.validate!({ source: 'jsonl', missingImages: 'fail', damagedImages: 'fail' }).map(
        ({ pointer }) => pointer,
      ),
    ).toEqual(['']);
  });
});

describe('dataset of official folders', () => {
  it.each([
    ['stanford-dogs', 'Images/n02085620-Chihuahua/n02085620_1.jpg', 'dog'],
    ['stanford-cars', 'cars_train/00001.jpg', 'car'],
    ['oxford-flowers-102', 'jpg/image_00001.jpg', 'flower'],
  ] as const)('makes %s to the end', async (source, sample, superCategory) => {
    const root = await temporaryFolder();
    cpSync(path.join(import.meta.dirname, '../../test/fixtures/official', source), root, { recursive: true });
    await writeAllImages(root, source);
    expect(existsSync(path.join(root, sample))).toBe(true);
    const { metrics, sft, unseen } = await make({ source, root: files(root), sftShots: 1, rlShots: 1 });
    expect(metrics).toMatchObject({ seenClasses: 3, unseenClasses: 2, sftImages: 3, rlImages: 3, leftOut: 0 });
    expect([metrics['seenTestImages'], metrics['unseenTestImages']]).toEqual([6, 4]);
    expect(sft.info.superCategory).toBe(superCategory);
    expect(unseen.rows[0]!.question).toContain(superCategory);
  });
});

/** A small image for every row of the lists. */
async function writeAllImages(root: string, source: 'stanford-dogs' | 'stanford-cars' | 'oxford-flowers-102') {
  const { readSource } = await import('../../src/datasets/read-source.ts');
  const needs = { train: true, test: true };
  const own = { name: source, superCategory: '', labelStyle: 'as-written', fields: {} } as const;
  const { images } = await readSource(source, { ...own, root, needs });
  mkdirSync(root, { recursive: true });
  for (const { content } of images) if (content.kind === 'file') await writeImage(content.path, content.name);
}
