import { cpSync, mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { fixture } from '../../test/helpers/fixtures.ts';
import { SHARED_DATA, sharedData } from '../../test/helpers/shared-data.ts';
import { temporaryFolder } from '../../test/helpers/temporary-folder.ts';
import { isRecord, readJsonLines } from '../artifacts/json-lines.ts';
import { type LabelledSource, readSource, type SourceRequest } from './read-source.ts';
import type { SourceData } from './source.ts';
import { listedSplit } from './split-classes.ts';

const BOTH = { train: true, test: true };
const OWN = { name: 'mine', superCategory: 'object', labelStyle: 'as-written', fields: {} } as const;

const read = (source: LabelledSource, root: string, request: Partial<SourceRequest> = {}) =>
  readSource(source, { ...OWN, root, needs: BOTH, ...request });

function write(folder: string, files: Readonly<Record<string, string>>): void {
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(path.dirname(path.join(folder, name)), { recursive: true });
    writeFileSync(path.join(folder, name), text);
  }
}

/** `id label split path-within-root` of every image. */
const listing = ({ images }: SourceData, root: string) =>
  images.map(({ id, label, split, content }) => {
    const file = content.kind === 'file' ? path.relative(root, content.path).split(path.sep).join('/') : content.name;
    return `${id} | ${label} | ${split} | ${file}`;
  });

const CUB = {
  'classes.txt': '1 001.Black_footed_Albatross\n2 159.Black_and_white_Warbler\n',
  'images.txt': '1 001.Black_footed_Albatross/A_1.jpg\n2 159.Black_and_white_Warbler/B_1.jpg\n',
  'image_class_labels.txt': '1 1\n2 2\n',
  'train_test_split.txt': '1 0\n2 1\n',
};

const AIRCRAFT = {
  'data/variants.txt': '707-320\nA310\nF/A-18\n',
  'data/images_variant_trainval.txt': '0000001 707-320\n0000002 A310\n',
  'data/images_variant_test.txt': '0000003 F/A-18\n',
  'data/images_manufacturer_trainval.txt': '0000001 Boeing\n0000002 Airbus\n',
  'data/images_manufacturer_test.txt': '0000003 McDonnell Douglas\n',
  'data/images_family_trainval.txt': '0000001 Boeing 707\n0000002 A310\n',
  'data/images_family_test.txt': '0000003 F/A-18\n',
};

const PETS = {
  'annotations/trainval.txt': '#Image CLASS-ID SPECIES BREED ID\nAbyssinian_100 1 1 1\n',
  'annotations/test.txt': 'Abyssinian_201 1 1 1\namerican_pit_bull_terrier_7 3 2 2\n',
};

describe('readSource()', () => {
  it('reads CUB-200-2011 and names birds as Fine-R1 does', async () => {
    const root = await temporaryFolder();
    write(path.join(root, 'CUB_200_2011'), CUB);
    const data = await read('cub-200-2011', root);
    expect(data.superCategory).toBe('bird');
    expect(data.classes).toEqual([
      { label: 'Black Footed Albatross', groups: ['Albatross'] },
      { label: 'Black And White Warbler', groups: ['Warbler'] },
    ]);
    expect(listing(data, path.join(root, 'CUB_200_2011'))).toEqual([
      'A_1 | Black Footed Albatross | test | images/001.Black_footed_Albatross/A_1.jpg',
      'B_1 | Black And White Warbler | train | images/159.Black_and_white_Warbler/B_1.jpg',
    ]);
  });

  it.each([
    ['a class that is not listed', { 'image_class_labels.txt': '1 1\n2 9\n' }, 'images.txt', 2, /no known class/],
    ['a repeated image', { 'images.txt': '1 a/b.jpg\n\n1 a/c.jpg\n' }, 'images.txt', 3, /earlier line/],
    ['half a line', { 'classes.txt': '1 001.A\n2\n' }, 'classes.txt', 2, /"key value"/],
    ['an unknown split', { 'train_test_split.txt': '1 0\n2 5\n' }, 'images.txt', 2, /no 0 or 1/],
  ])('names file and line of %s', async (_, change, file, line, message) => {
    const root = await temporaryFolder();
    write(root, { ...CUB, ...change });
    await expect(read('cub-200-2011', root)).rejects.toMatchObject({
      code: 'DATA_ROW_INVALID',
      message: expect.stringMatching(message),
      at: { file: path.join(root, file), line },
    });
  });

  it('reads FGVC-Aircraft with manufacturers and families', async () => {
    const root = await temporaryFolder();
    write(root, AIRCRAFT);
    const data = await read('fgvc-aircraft', root);
    expect(data.classes).toEqual([
      { label: 'Boeing 707-320', groups: ['Boeing', 'Boeing 707'] },
      { label: 'Airbus A310', groups: ['Airbus', 'A310'] },
      { label: 'F/A-18', groups: ['McDonnell Douglas', 'F/A-18'] },
    ]);
    expect(listing(data, root)).toEqual([
      '0000001 | Boeing 707-320 | train | data/images/0000001.jpg',
      '0000002 | Airbus A310 | train | data/images/0000002.jpg',
      '0000003 | F/A-18 | test | data/images/0000003.jpg',
    ]);
    write(root, { 'data/images_variant_test.txt': '0000003 Concorde\n' });
    await expect(read('fgvc-aircraft', root)).rejects.toMatchObject({ code: 'DATA_ROW_INVALID', at: { line: 1 } });
  });

  it('asks for the lists of the splits that are needed, and for no others', async () => {
    const root = await temporaryFolder();
    const { 'data/images_variant_trainval.txt': _, ...withoutTraining } = AIRCRAFT;
    write(root, withoutTraining);
    await expect(read('fgvc-aircraft', root)).rejects.toMatchObject({
      code: 'DATA_UNREADABLE',
      message: expect.stringContaining('images_variant_trainval.txt'),
    });
    expect((await read('fgvc-aircraft', root, { needs: { train: false, test: true } })).images.length).toBe(1);
  });

  it('reads Oxford-IIIT Pet', async () => {
    const root = await temporaryFolder();
    write(root, PETS);
    const data = await read('oxford-iiit-pet', root);
    expect(data.classes).toEqual([
      { label: 'Abyssinian', groups: ['cat'] },
      { label: 'American Pit Bull Terrier', groups: ['dog'] },
    ]);
    expect(listing(data, root)).toEqual([
      'Abyssinian_100 | Abyssinian | train | images/Abyssinian_100.jpg',
      'Abyssinian_201 | Abyssinian | test | images/Abyssinian_201.jpg',
      'american_pit_bull_terrier_7 | American Pit Bull Terrier | test | images/american_pit_bull_terrier_7.jpg',
    ]);
    write(root, { 'annotations/test.txt': 'Abyssinian_201 1 1\n' });
    await expect(read('oxford-iiit-pet', root)).rejects.toMatchObject({
      at: { line: 1, lineText: 'Abyssinian_201 1 1' },
    });
  });

  it('reads Stanford Dogs from its MAT-files', async () => {
    const root = fixture('official', 'stanford-dogs');
    const data = await read('stanford-dogs', root);
    expect(data.classes.map(({ label }) => label)).toEqual([
      'Chihuahua',
      'Shih Tzu',
      'Curly Coated Retriever',
      'German Shepherd',
      'Basenji',
    ]);
    expect(data.images.length).toBe(25);
    expect(listing(data, root)[15]).toBe('n02085620_4 | Chihuahua | test | Images/n02085620-Chihuahua/n02085620_4.jpg');
  });

  it('reads Stanford Cars from its MAT-files, and tells train from test though both count from 00001', async () => {
    const root = fixture('official', 'stanford-cars');
    const data = await read('stanford-cars', root);
    expect(data.classes[3]).toEqual({ label: 'Ram C/V Cargo Van Minivan 2012', groups: ['Ram'] });
    const lines = listing(data, root);
    expect(lines.length).toBe(25);
    expect(lines[0]).toBe('train-00001 | AM General Hummer SUV 2000 | train | cars_train/00001.jpg');
    expect(lines[15]).toBe('test-00001 | AM General Hummer SUV 2000 | test | cars_test/00001.jpg');
    const bare = await temporaryFolder();
    cpSync(path.join(root, 'devkit'), path.join(bare, 'devkit'), { recursive: true });
    await expect(read('stanford-cars', bare)).rejects.toMatchObject({
      code: 'DATA_UNREADABLE',
      message: expect.stringContaining('cars_test_annos_withlabels.mat'),
    });
  });

  // Written by scipy.io.savemat: three rows, one of them a test image.
  it('reads Stanford Cars in one piece', async () => {
    const root = fixture('official', 'stanford-cars-whole');
    const data = await read('stanford-cars', root);
    expect(data.classes.map(({ label }) => label)).toEqual(['AM General Hummer SUV 2000', 'Acura RL Sedan 2012']);
    expect(listing(data, root)).toEqual([
      'train-000001 | AM General Hummer SUV 2000 | train | car_ims/000001.jpg',
      'test-000002 | AM General Hummer SUV 2000 | test | car_ims/000002.jpg',
      'train-000003 | Acura RL Sedan 2012 | train | car_ims/000003.jpg',
    ]);
    const tests = await read('stanford-cars', root, { needs: { train: false, test: true } });
    expect(tests.images.map(({ id }) => id)).toEqual(['test-000002']);
  });

  it('finds the images of Stanford Cars beside a folder around the devkit', async () => {
    const root = await temporaryFolder();
    const official = fixture('official', 'stanford-cars');
    cpSync(path.join(official, 'devkit'), path.join(root, 'car_devkit/devkit'), { recursive: true });
    mkdirSync(path.join(root, 'cars_train'));
    const [line] = listing(await read('stanford-cars', root, { needs: { train: true, test: false } }), root);
    expect(line).toBe('train-00001 | AM General Hummer SUV 2000 | train | cars_train/00001.jpg');
  });

  it('reads lists with tabs, line ends of Windows and a byte order mark', async () => {
    const root = await temporaryFolder();
    write(root, { 'annotations/test.txt': '\uFEFFAbyssinian_201\t1\t1\t1\r\nBengal_7 2 1 2\r\n' });
    const data = await read('oxford-iiit-pet', root, { needs: { train: false, test: true } });
    expect(data.images.map(({ label }) => label)).toEqual(['Abyssinian', 'Bengal']);
    expect(data.images[1]!.at).toMatchObject({ line: 2, lineText: 'Bengal_7 2 1 2' });
  });

  it('reads Oxford Flowers-102, training and validation as one', async () => {
    const root = fixture('official', 'oxford-flowers-102');
    const data = await read('oxford-flowers-102', root);
    expect(data.classes.length).toBe(102);
    const lines = listing(data, root);
    expect(lines.filter((line) => line.includes('| train |')).length).toBe(10);
    expect(lines[2]).toBe('image_00009 | petunia | train | jpg/image_00009.jpg');
    expect(lines.at(-1)).toBe('image_00020 | blackberry lily | test | jpg/image_00020.jpg');
  });

  it('takes labels and splits from folders', async () => {
    const root = await temporaryFolder();
    write(root, {
      'train/001.red_finch/a.jpg': '',
      'train/n02085620-Blue_finch/b.PNG': '',
      'test/001.red_finch/c.jpg': '',
      'test/001.red_finch/.hidden.jpg': '',
      'readme.txt': '',
    });
    const data = await read('image-folder', root, { labelStyle: 'title' });
    expect(listing(data, root)).toEqual([
      'test/001.red_finch/c | Red Finch | test | test/001.red_finch/c.jpg',
      'train/001.red_finch/a | Red Finch | train | train/001.red_finch/a.jpg',
      'train/n02085620-Blue_finch/b | Blue Finch | train | train/n02085620-Blue_finch/b.PNG',
    ]);
    expect(data.classes.map(({ label }) => label)).toEqual(['Blue Finch', 'Red Finch']);
    write(root, { 'train/001.red_finch/a.png': '' });
    const ids = (await read('image-folder', root)).images.map(({ id }) => id);
    expect(ids.slice(1, 3)).toEqual(['train/001.red_finch/a.jpg', 'train/001.red_finch/a.png']);
    await expect(read('image-folder', await temporaryFolder())).rejects.toMatchObject({ code: 'DATA_UNREADABLE' });
  });

  it('takes splits from folders further down, and passes over what archives leave behind', async () => {
    const root = await temporaryFolder();
    write(root, {
      'Fotos für Tests/Train/red finch/a b.JPEG': '',
      'Fotos für Tests/VAL/red finch/c.jpg': '',
      '__MACOSX/Train/red finch/._a b.JPEG': '',
      'Thumbs.db': '',
    });
    expect(listing(await read('image-folder', root), root)).toEqual([
      'Fotos für Tests/Train/red finch/a b | red finch | train | Fotos für Tests/Train/red finch/a b.JPEG',
      'Fotos für Tests/VAL/red finch/c | red finch | test | Fotos für Tests/VAL/red finch/c.jpg',
    ]);
  });

  it('reads JSON lines whose columns have other names', async () => {
    const root = await temporaryFolder();
    const row = { picture: 'a/x.jpg', species: 'red_finch', split: 'validation', question: 'Which?' };
    write(root, { 'rows.jsonl': `${JSON.stringify(row)}\n\n${JSON.stringify({ ...row, split: 'train', id: 'z' })}\n` });
    const data = await read('jsonl', root, { fields: { image: 'picture', label: 'species' } });
    expect(listing(data, root)).toEqual(['rows-1 | red finch | test | a/x.jpg', 'z | red finch | train | a/x.jpg']);
    expect(data.images[0]).toMatchObject({ question: 'Which?', at: { line: 1 } });
    await expect(read('jsonl', root)).rejects.toMatchObject({ code: 'DATA_ROW_INVALID', at: { line: 1 } });
  });

  it('tells rows of several files apart, and refuses two with the same id', async () => {
    const root = await temporaryFolder();
    const row = { image: 'x.jpg', label: 'finch' };
    write(root, { 'a/train.jsonl': JSON.stringify(row), 'b/train.jsonl': JSON.stringify(row) });
    expect(listing(await read('jsonl', root), root)).toEqual([
      'a-train-1 | finch | train | a/x.jpg',
      'b-train-1 | finch | train | b/x.jpg',
    ]);
    const again = JSON.stringify({ ...row, id: 'z' });
    write(root, { 'a/train.jsonl': `${again}\n${again}\n` });
    await expect(read('jsonl', root)).rejects.toMatchObject({
      code: 'DATA_ROW_INVALID',
      message: expect.stringContaining('"z"'),
      at: { file: path.join(root, 'a/train.jsonl'), line: 2 },
    });
  });

  it('takes the mark of the image out of questions, and asks one of its own where nothing is left', async () => {
    const root = await temporaryFolder();
    const row = (question: string) => JSON.stringify({ image: 'x.jpg', label: 'finch', question });
    write(root, { 'rows.jsonl': `${row('<image> Which bird?')}\n${row('<image>')}\n` });
    const { images } = await read('jsonl', root);
    expect(images.map(({ question }) => question)).toEqual(['Which bird?', undefined]);
  });

  it.each([
    ['its label "finch" is not among its options', ['a', 'b', 'c', 'd']],
    ['two of its options are the same', ['finch', 'b', 'b', 'd']],
  ])('says of options that %s', async (message, options) => {
    const root = await temporaryFolder();
    write(root, { 'rows.jsonl': JSON.stringify({ image: 'x.jpg', label: 'finch', options }) });
    await expect(read('jsonl', root)).rejects.toMatchObject({
      message: expect.stringContaining(message),
      at: { line: 1 },
    });
  });

  // Written by pyarrow 26.0.1 with the metadata that Hugging Face's datasets writes; snappy, and zstd for test.
  it('reads Parquet as Hugging Face writes it, with names of labels and bytes of images', async () => {
    const root = fixture('parquet', 'labelled');
    const data = await read('parquet', root);
    expect(data.classes.map(({ label }) => label)).toEqual(['blue finch', 'green finch', 'red finch']);
    expect(data.images.filter(({ split }) => split === 'train').map(({ label }) => label)).toEqual(
      Array.from({ length: 9 }, (_, i) => ['red finch', 'green finch', 'blue finch'][i % 3]),
    );
    const { default: sharp } = await import('sharp');
    // Row i of the training file is (40 + 10 i) of colour i % 3.
    for (const [index, want] of [
      [8, [0, 0, 120]],
      [1, [0, 50, 0]],
      [6, [100, 0, 0]],
    ] as const) {
      const content = data.images.filter(({ split }) => split === 'train')[index]!.content;
      const bytes = content.kind === 'bytes' ? await content.read() : new Uint8Array();
      expect([...(await sharp(bytes).raw().toBuffer())].slice(0, 3)).toEqual(want);
    }
    await expect(read('parquet', root, { fields: { label: 'species' } })).rejects.toMatchObject({
      code: 'DATA_UNREADABLE',
      message: expect.stringContaining('it has: image, label'),
    });
  });
});

describe.skipIf(SHARED_DATA === undefined)('readSource() on the real lists', () => {
  const evalLabels = async (category: string, split: string) => {
    const file = sharedData('fine-r1', 'eval', `${category}_${split}.jsonl`);
    const rows = await readJsonLines<{ label: string; name: string }>(file, (row) =>
      isRecord(row)
        ? { label: String(row['ground_truth']), name: String(row['image_path']) }
        : { problem: 'no object' },
    );
    return rows;
  };

  it('gives the 5,994 and 5,794 images of CUB with the labels and test set of Fine-R1', async () => {
    const data = await read('cub-200-2011', sharedData('annotations', 'CUB_200_2011'));
    const tests = data.images.filter(({ split }) => split === 'test');
    expect([data.classes.length, data.images.length - tests.length, tests.length]).toEqual([200, 5994, 5794]);
    const rows = [...(await evalLabels('bird', 'seen')), ...(await evalLabels('bird', 'unseen'))];
    const ours = new Set(tests.map(({ content, label }) => `${content.name} ${label}`));
    expect(rows.filter(({ name, label }) => !ours.has(`${name.replace('bird_200/', '')} ${label}`))).toEqual([]);
    expect(rows.length).toBe(ours.size);
    const split = await listedSplit(
      sharedData('fine-r1', 'eval'),
      'bird',
      data.classes.map(({ label }) => label),
    );
    const count = (labels: readonly string[]) => tests.filter(({ label }) => labels.includes(label)).length;
    expect([split.seen.length, split.unseen.length]).toEqual([120, 80]);
    expect([count(split.seen), count(split.unseen)]).toEqual([3483, 2311]);
  });

  it('gives the 3,333 test images of FGVC-Aircraft with the labels of Fine-R1', async () => {
    const root = sharedData('annotations', 'fgvc_aircraft', 'derived');
    const data = await read('fgvc-aircraft', root, { needs: { train: false, test: true } });
    expect([data.classes.length, data.images.length]).toEqual([100, 3333]);
    const rows = [...(await evalLabels('aircraft', 'seen')), ...(await evalLabels('aircraft', 'unseen'))];
    const ours = new Set(data.images.map(({ id, label }) => `${id} ${label}`));
    expect(rows.filter(({ name, label }) => !ours.has(`${path.parse(name).name} ${label}`))).toEqual([]);
  });

  it('gives the 3,669 test images of Oxford-IIIT Pet with the labels of Fine-R1', async () => {
    const root = sharedData('annotations', 'oxford_iiit_pet', 'derived');
    const data = await read('oxford-iiit-pet', root, { needs: { train: false, test: true } });
    expect([data.classes.length, data.images.length]).toEqual([37, 3669]);
    const rows = [...(await evalLabels('pet', 'seen')), ...(await evalLabels('pet', 'unseen'))];
    const ours = new Set(data.images.map(({ id, label }) => `${id} ${label}`));
    expect(rows.filter(({ name, label }) => !ours.has(`${path.parse(name).name} ${label}`))).toEqual([]);
  });

  it('gives the 8,144 training images of Stanford Cars and the 2,040 and 6,149 images of Flowers', async () => {
    const cars = await read('stanford-cars', sharedData('annotations', 'stanford_cars'), {
      needs: { train: true, test: false },
    });
    expect([cars.classes.length, cars.images.length]).toEqual([196, 8144]);
    const flowers = await read('oxford-flowers-102', sharedData('annotations', 'flowers102'));
    const tests = flowers.images.filter(({ split }) => split === 'test');
    expect([flowers.classes.length, flowers.images.length - tests.length, tests.length]).toEqual([102, 2040, 6149]);
  });
});
