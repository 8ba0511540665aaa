import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import { readEvalData } from '../../src/artifacts/eval-data.ts';
import { readSftData, readTripletData, writeDataset } from '../../src/artifacts/rows.ts';
import { fixture } from '../../test/helpers/fixtures.ts';
import { SHARED_DATA, sharedData } from '../../test/helpers/shared-data.ts';
import { temporaryFolder } from '../../test/helpers/temporary-folder.ts';
import { fakeArtifact, fakeContext } from '../testing/fake-context.ts';
import { writeImage } from '../testing/images.ts';
import { readEvalItems } from './eval-files.ts';
import type { DatasetOptions } from './options.ts';
import { datasetStage } from './stage.ts';

const files = (folder: string) => fakeArtifact('files', folder);

function start(options: Partial<DatasetOptions>) {
  const context = fakeContext(datasetStage, options);
  return {
    context,
    async run() {
      const { metrics } = await datasetStage.run(context);
      return Object.fromEntries(Object.entries(metrics!).map(([name, { value }]) => [name, value]));
    },
    [Symbol.dispose]: () => context[Symbol.dispose](),
  };
}

/** What `fr1 check` tells. */
async function found(options: Partial<DatasetOptions>): Promise<string[]> {
  using context = fakeContext(datasetStage, options);
  const messages: string[] = [];
  await datasetStage.check!({
    name: 'data',
    options: context.options,
    provider: 'cpu',
    signal: context.signal,
    progress: () => undefined,
    problem: (error) => messages.push(error.message),
    found: (message) => messages.push(message),
    needsDisk: () => undefined,
  });
  return messages;
}

describe('dataset of chats (sharegpt)', () => {
  const chat = (image: string, label: string) => ({
    messages: [
      { content: '<image>Which bird?', role: 'user' },
      { role: 'assistant', content: `<think>A thought.</think>\n\n<answer>${label}</answer>` },
    ],
    images: [image],
  });

  it('takes chats of both forms, with each image from where it lies', async () => {
    const root = await temporaryFolder();
    const conversations = {
      conversations: [
        { from: 'human', value: '<image>Which?' },
        { from: 'gpt', value: 'A wren.' },
      ],
      system: 'Think.',
      images: ['b.jpg'],
    };
    writeFileSync(path.join(root, 'data.json'), JSON.stringify([chat('train/a.jpg', 'Robin'), conversations]));
    writeFileSync(path.join(root, 'dataset_info.json'), '{}');
    await writeImage(path.join(root, 'photos/a.jpg'), 'a');
    await writeImage(path.join(root, 'b.jpg'), 'b');
    using stage = start({ source: 'sharegpt', root: files(root), images: { train: files(path.join(root, 'photos')) } });
    expect(await stage.run()).toEqual({ chats: 2, leftOut: 0 });
    const output = stage.context.outputs['chats']!;
    const rows = await readSftData(output);
    expect(rows[0]).toEqual({ ...chat('images/train/a.jpg', 'Robin') });
    expect(rows[1]!.messages.map(({ role }) => role)).toEqual(['system', 'user', 'assistant']);
    expect(readFileSync(path.join(output, 'images/b.jpg'))).toEqual(readFileSync(path.join(root, 'b.jpg')));
  });

  it.each([
    ['two images', { ...chat('a.jpg', 'x'), images: ['a.jpg', 'b.jpg'] }, /2 images and 1 <image> marks/],
    ['no answer', { ...chat('a.jpg', 'x'), messages: [{ role: 'user', content: '<image>' }] }, /last message/],
    [
      'two answers',
      { ...chat('a.jpg', 'x'), messages: [...chat('a.jpg', 'x').messages, ...chat('a.jpg', 'y').messages.slice(1)] },
      /2 answers; chats with one are learnt/,
    ],
    [
      'a late system text',
      { ...chat('a.jpg', 'x'), messages: [...chat('a.jpg', 'x').messages, { role: 'system', content: 'Think.' }] },
      /message of the system is not the first/,
    ],
    [
      'its mark in the answer',
      {
        ...chat('a.jpg', 'x'),
        messages: [
          { role: 'user', content: 'Which?' },
          { role: 'assistant', content: '<image>' },
        ],
      },
      /mark is in a message of the assistant/,
    ],
    ['an unknown role', { ...chat('a.jpg', 'x'), messages: [{ role: 'tool', content: '' }] }, /known role/],
  ])('refuses a chat with %s, naming file and chat', async (_, wrong, message) => {
    const root = await temporaryFolder();
    writeFileSync(path.join(root, 'data.json'), JSON.stringify([chat('a.jpg', 'x'), wrong]));
    using stage = start({ source: 'sharegpt', root: files(root) });
    await expect(stage.run()).rejects.toMatchObject({
      code: 'DATA_ROW_INVALID',
      message: expect.stringMatching(message),
    });
    await expect(stage.run()).rejects.toThrow('data.json: chat 1');
  });

  it('takes the system text of the messages where there is another beside', async () => {
    const root = await temporaryFolder();
    await writeImage(path.join(root, 'a.jpg'), 'a');
    const { messages, images } = chat('a.jpg', 'x');
    const both = { system: 'Beside.', messages: [{ role: 'system', content: 'Within.' }, ...messages], images };
    writeFileSync(path.join(root, 'data.json'), JSON.stringify([both]));
    using stage = start({ source: 'sharegpt', root: files(root) });
    await stage.run();
    const [row] = await readSftData(stage.context.outputs['chats']!);
    expect(row!.messages.map(({ content }) => content)).toEqual(both.messages.map(({ content }) => content));
  });

  it.skipIf(SHARED_DATA === undefined)(
    'takes the 404 chats of Fine-R1 with the counts of its six data sets',
    async () => {
      const file = sharedData('fine-r1', 'stage1', 'Fine-R1-Stage1-data.json');
      const chats = JSON.parse(readFileSync(file, 'utf8')) as { images: [string] }[];
      const photos = await temporaryFolder();
      await writeImage(path.join(photos, 'sample.png'), 'sample', 2, 2);
      for (const { images } of chats) {
        mkdirSync(path.dirname(path.join(photos, images[0])), { recursive: true });
        cpSync(path.join(photos, 'sample.png'), path.join(photos, images[0]));
      }
      using stage = start({ source: 'sharegpt', root: files(file), images: { '.': files(photos) } });
      expect(await stage.run()).toEqual({ chats: 404, leftOut: 0 });
      const rows = await readSftData(stage.context.outputs['chats']!);
      const perFolder: Record<string, number> = {};
      for (const { images } of rows) {
        const folder = images[0]!.split('/')[1]!;
        perFolder[folder] = (perFolder[folder] ?? 0) + 1;
      }
      expect(perFolder).toEqual({
        'fgvc-aircraft-2013b-train': 60,
        bird_200: 86,
        stanford_cars_train: 117,
        dogs_120: 70,
        flower102_train: 59,
        'oxford-pet-train': 12,
      });
      expect(rows.map(({ messages }) => messages)).toEqual(
        (JSON.parse(readFileSync(file, 'utf8')) as typeof rows).map(({ messages }) =>
          messages.map(({ role, content }) => ({ role, content })),
        ),
      );
    },
  );

  it.skipIf(SHARED_DATA === undefined)('finds the 20 chats whose photos are there', async () => {
    using stage = start({
      source: 'sharegpt',
      root: files(sharedData('fine-r1', 'stage1')),
      images: { 'bird_200/images_train': files(sharedData('images', 'CUB_200_2011')) },
      missingImages: 'skip',
    });
    expect(await stage.run()).toEqual({ chats: 20, leftOut: 384 });
  });
});

/** Test items that show these files, under other names. */
async function testItems(...images: readonly string[]) {
  const folder = await temporaryFolder();
  const rows = images.map((_, i) => ({
    ...{ id: `${i}`, image: `images/test-${i}.png`, label: 'Robin', question: 'Which?' },
    options: ['Robin', 'Wren', 'Gull', 'Kite'],
  }));
  mkdirSync(path.join(folder, 'images'));
  for (const [i, image] of images.entries()) cpSync(image, path.join(folder, rows[i]!.image));
  await writeDataset(folder, { name: 'tests', superCategory: 'bird', split: 'seen', classes: ['Robin'] }, rows);
  return fakeArtifact('eval-data', folder);
}

describe('notIn', () => {
  it('leaves out chats and triplets that show a test image, whatever it is called', async () => {
    const root = await temporaryFolder();
    for (const name of ['a.png', 'b.png', 'p.png', 'n.png']) await writeImage(path.join(root, name), name);
    const chat = (image: string) => ({
      messages: [
        { role: 'user', content: '<image>Which?' },
        { role: 'assistant', content: 'A wren.' },
      ],
      images: [image],
    });
    writeFileSync(path.join(root, 'data.json'), JSON.stringify([chat('a.png'), chat('b.png')]));
    const notIn = [await testItems(path.join(root, 'b.png'), path.join(root, 'n.png'))];
    using chats = start({ source: 'sharegpt', root: files(path.join(root, 'data.json')), notIn });
    expect(await chats.run()).toEqual({ chats: 1, leftOut: 1 });
    expect(chats.context.warnings).toEqual(['1 chats are about test images; none of them is used']);
    const kept = await readSftData(chats.context.outputs['chats']!);
    expect(kept.map(({ images }) => images)).toEqual([['images/a.png']]);

    const triplet = { anchor: 'a.png', positive: 'p.png', question: 'Which?', label: 'Robin' };
    const rows = ['n.png', 'p.png'].map((negative) => JSON.stringify({ ...triplet, negative }));
    writeFileSync(path.join(root, 'rows.jsonl'), rows.join('\n'));
    using triplets = start({ source: 'easyr1', root: files(path.join(root, 'rows.jsonl')), notIn });
    expect(await triplets.run()).toMatchObject({ triplets: 1, leftOut: 1 });
    expect(triplets.context.warnings).toEqual(['1 triplets show test images; none of them is used']);
  });
});

describe('dataset of triplets (easyr1)', () => {
  // Written by pyarrow 26.0.1: red anchors of 10 + i, red positives of 100 + i, blue negatives of 100 + i.
  it('Q31: takes the columns of the released data as anchor, positive and negative', async () => {
    using stage = start({ source: 'easyr1', root: files(fixture('parquet', 'stage2')), superCategory: 'car' });
    expect(await stage.run()).toEqual({ seenClasses: 3, triplets: 3, leftOut: 0 });
    const output = stage.context.outputs['triplets']!;
    const { rows, info } = await readTripletData(output);
    expect(info.superCategory).toBe('car');
    expect(rows[1]).toMatchObject({
      question: '<image> Based on this image, what model of car is shown?',
      label: 'Buick Enclave SUV 2012',
    });
    const colour = async (image: string) => [...(await sharp(path.join(output, image)).raw().toBuffer())].slice(0, 3);
    expect(await colour(rows[1]!.anchor)).toEqual([11, 0, 0]);
    expect(await colour(rows[1]!.positive)).toEqual([101, 0, 0]);
    expect(await colour(rows[1]!.negative)).toEqual([0, 0, 101]);
  });

  it('takes JSON lines with the plain names, and says what a row lacks', async () => {
    const root = await temporaryFolder();
    const row = { anchor: 'a.png', positive: ['p.png'], negative: 'n.png', question: 'Which?', label: 'Robin' };
    for (const name of ['a.png', 'p.png', 'n.png']) await writeImage(path.join(root, name), name);
    writeFileSync(path.join(root, 'rows.jsonl'), JSON.stringify(row));
    using stage = start({ source: 'easyr1', root: files(root) });
    expect(await stage.run()).toMatchObject({ triplets: 1 });
    writeFileSync(
      path.join(root, 'rows.jsonl'),
      `${JSON.stringify(row)}\n${JSON.stringify({ ...row, positive: undefined })}`,
    );
    using other = start({ source: 'easyr1', root: files(root) });
    await expect(other.run()).rejects.toMatchObject({
      message: expect.stringContaining('"image_noisy" or "positive"'),
      at: { line: 2 },
    });
  });

  it('Q32: refuses a row without an image at its line, where the released code passes its batch on without an answer', async () => {
    type Row = { readonly problem: string; readonly answer: string; readonly images?: readonly string[] };
    /** Generation of the released code with positive images on. */
    const released = (batch: readonly Row[]) =>
      batch.some(({ images }) => images) ? batch.map((row) => ({ ...row, responses: ['said'] })) : batch;
    const rows = ['Which?', 'Who?'].map((problem): Row => ({ problem, answer: 'Robin' }));
    expect(released(rows).some((row) => 'responses' in row)).toBe(false);
    const root = await temporaryFolder();
    const file = path.join(root, 'rows.jsonl');
    writeFileSync(file, rows.map((row) => JSON.stringify(row)).join('\n'));
    using stage = start({ source: 'easyr1', root: files(root) });
    await expect(stage.run()).rejects.toMatchObject({
      code: 'DATA_ROW_INVALID',
      message: expect.stringContaining('"images" or "anchor"'),
      at: { file, line: 1 },
    });
    expect(await found({ source: 'easyr1', root: files(root) }).catch(({ code }: { code: string }) => code)).toBe(
      'DATA_ROW_INVALID',
    );
  });

  it('Q33: finds Parquet files by their ending, where the released code takes the type of the first file that is listed', async () => {
    /** Of a listing in whatever order the system gives it. */
    const released = (names: readonly string[]) => names[0]!.split('.').at(-1);
    const root = await temporaryFolder();
    cpSync(fixture('parquet', 'stage2'), root, { recursive: true });
    for (const name of ['.DS_Store', 'README.md']) writeFileSync(path.join(root, name), 'no data');
    const names = readdirSync(root).sort();
    expect(released(names)).toBe('DS_Store');
    expect(released(names.filter((name) => !name.startsWith('.')))).toBe('md');
    expect(released(names.filter((name) => name.endsWith('.parquet')))).toBe('parquet');
    using stage = start({ source: 'easyr1', root: files(root) });
    expect(await stage.run()).toMatchObject({ triplets: 3 });
  });

  // Written by pyarrow 26.0.1: a triplet, one with two anchors, one whose negative is a path alone, one without a positive.
  it('names rows with another number of images than one in fr1 check too', async () => {
    const problems = ['row 1: "images" holds 2', 'row 2: "image_aug" holds no bytes', 'row 3: "image_noisy" holds 0'];
    const odd = { source: 'easyr1', root: files(fixture('parquet', 'stage2-odd')) } as const;
    expect((await found(odd)).sort()).toEqual(problems.map((problem) => expect.stringContaining(problem)));
    expect(await found({ ...odd, root: files(fixture('parquet', 'stage2')) })).toEqual(['3 triplets']);
    using stage = start(odd);
    await expect(stage.run()).rejects.toMatchObject({
      code: 'DATA_ROW_INVALID',
      message: expect.stringContaining(problems[0]!),
    });
  });

  it('leaves out files that are named after a test, unless one is the root', async () => {
    const root = await temporaryFolder();
    const copy = (name: string) => cpSync(fixture('parquet', 'stage2'), path.join(root, name), { recursive: true });
    for (const name of ['data', 'test']) copy(name);
    using stage = start({ source: 'easyr1', root: files(root) });
    expect(await stage.run()).toMatchObject({ triplets: 3 });
    expect(stage.context.warnings).toEqual([expect.stringMatching(/^test.+named after a test, so not trained on$/)]);
    using tests = start({ source: 'easyr1', root: files(path.join(root, 'test')) });
    expect(await tests.run()).toMatchObject({ triplets: 3 });
    const lines = path.join(root, 'validation.jsonl');
    writeFileSync(lines, '');
    for (const name of ['data', 'test']) rmSync(path.join(root, name), { recursive: true });
    using nothing = start({ source: 'easyr1', root: files(root) });
    await expect(nothing.run()).rejects.toMatchObject({
      code: 'DATA_INSUFFICIENT',
      message: expect.stringContaining('those of tests: validation.jsonl'),
    });
  });

  it('keeps the place of the image in a question, and refuses a question with two', async () => {
    const root = await temporaryFolder();
    const row = { anchor: 'a.png', positive: 'a.png', negative: 'a.png', label: 'Robin' };
    await writeImage(path.join(root, 'a.png'), 'a');
    const write = (...questions: readonly string[]) =>
      writeFileSync(
        path.join(root, 'rows.jsonl'),
        questions.map((question) => `${JSON.stringify({ ...row, question })}\n`).join(''),
      );
    write('<image> Which?', 'Which is <image>?', 'Which?');
    using stage = start({ source: 'easyr1', root: files(root) });
    await stage.run();
    const { rows } = await readTripletData(stage.context.outputs['triplets']!);
    expect(rows.map(({ question }) => question)).toEqual(['<image> Which?', 'Which is <image>?', 'Which?']);
    write('<image> or <image>?');
    using wrong = start({ source: 'easyr1', root: files(root) });
    await expect(wrong.run()).rejects.toMatchObject({
      code: 'DATA_ROW_INVALID',
      message: expect.stringContaining('2 <image> marks'),
      at: { line: 1 },
    });
  });

  it('refuses Parquet without triplets, naming the column', async () => {
    using stage = start({ source: 'easyr1', root: files(fixture('parquet', 'labelled')) });
    await expect(stage.run()).rejects.toMatchObject({
      code: 'DATA_UNREADABLE',
      message: expect.stringContaining('no column images or anchor; it has: image, label'),
    });
  });
});

describe('dataset of test items (fine-r1-eval)', () => {
  const item = (image: string, label: string) => ({
    image_path: image,
    question: 'Which bird?',
    options: [label, 'Gull', 'Kite', 'Rail'],
    ground_truth: label,
  });

  it('fills seen and unseen in the order of the files', async () => {
    const root = await temporaryFolder();
    for (const name of ['a.jpg', 'b.jpg']) await writeImage(path.join(root, 'photos', name), name);
    writeFileSync(path.join(root, 'bird_seen.jsonl'), JSON.stringify(item('birds/a.jpg', 'Robin')));
    writeFileSync(path.join(root, 'bird_unseen.jsonl'), JSON.stringify(item('birds/b.jpg', 'Wren')));
    const images = { birds: files(path.join(root, 'photos')) };
    using stage = start({ source: 'fine-r1-eval', root: files(root), images });
    expect(await stage.run()).toMatchObject({ seenTestImages: 1, unseenTestImages: 1 });
    const { info, rows } = await readEvalData(stage.context.outputs['seen']!);
    expect(info).toEqual({ name: 'fine-r1-bird', superCategory: 'bird' });
    expect(rows).toEqual([
      {
        id: 'bird_seen-1',
        image: 'images/birds/a.jpg',
        label: 'Robin',
        question: 'Which bird?',
        options: ['Robin', 'Gull', 'Kite', 'Rail'],
        sourcePath: 'birds/a.jpg',
      },
    ]);
    writeFileSync(
      path.join(root, 'bird_seen.jsonl'),
      ['a', 'gone'].map((name) => JSON.stringify(item(`birds/${name}.jpg`, 'Robin'))).join('\n'),
    );
    expect(await found({ source: 'fine-r1-eval', root: files(root), images, missingImages: 'skip' })).toEqual([
      '1 of 3 listed images do not exist; their rows are left out',
      '1 + 1 test items',
    ]);
    writeFileSync(
      path.join(root, 'bird_unseen.jsonl'),
      `\n${JSON.stringify({ ...item('birds/b.jpg', 'Wren'), options: [] })}`,
    );
    using wrong = start({ source: 'fine-r1-eval', root: files(root), images });
    await expect(wrong.run()).rejects.toMatchObject({ code: 'DATA_ROW_INVALID', at: { line: 2 } });
    writeFileSync(path.join(root, 'pet_seen.jsonl'), '');
    using several = start({ source: 'fine-r1-eval', root: files(root), images });
    await expect(several.run()).rejects.toThrow('several categories: bird, pet');
  });

  it('tells of what the released files do not have', async () => {
    const root = await temporaryFolder();
    for (const name of ['a.jpg', 'b.jpg']) await writeImage(path.join(root, name), name);
    const write = (split: string, ...items: readonly object[]) =>
      writeFileSync(path.join(root, `bird_${split}.jsonl`), items.map((each) => `${JSON.stringify(each)}\n`).join(''));
    write('seen', item('a.jpg', 'Robin'), { ...item('b.jpg', 'Wren'), options: ['Wren', 'Gull'] });
    write('unseen', item('a.jpg', 'Robin'));
    using stage = start({ source: 'fine-r1-eval', root: files(root) });
    expect(await stage.run()).toMatchObject({ seenTestImages: 2, unseenTestImages: 1 });
    expect(stage.context.warnings).toEqual([
      '1 test images repeat another one; each is asked',
      '1 classes are both seen and unseen, e.g. "Robin"',
      '1 test items have another number of options than 4, e.g. "bird_seen-2" 2',
    ]);
  });

  it.skipIf(SHARED_DATA === undefined).each([
    ['aircraft', 2002, 60, 1331, 40],
    ['bird', 3483, 120, 2311, 80],
    ['pet', 2176, 22, 1493, 15],
  ])('takes the counts of Fine-R1 for %s', async (category, seen, seenClasses, unseen, unseenClasses) => {
    const read = async (split: 'seen' | 'unseen') => {
      const items = await readEvalItems(sharedData('fine-r1', 'eval'), category, split);
      expect(items.every(({ options, label }) => options.length === 4 && options[0] === label)).toBe(true);
      return [items.length, new Set(items.map(({ label }) => label)).size];
    };
    expect(await read('seen')).toEqual([seen, seenClasses]);
    expect(await read('unseen')).toEqual([unseen, unseenClasses]);
  });
});
