import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Fr1Error } from '../errors/fr1-error.ts';
import { readEvalData } from './eval-data.ts';
import { linkImages, readImageData, readSftData, readTripletData, writeDataset, writeSftData } from './rows.ts';
import type { ImageRow, SftRow, TripletRow } from './types.ts';

const INFO = { name: 'birds', superCategory: 'bird', split: 'train' as const, classes: ['Robin', 'Wren'] };
const ROW: ImageRow = { id: 'a', image: 'images/a.png', label: 'Robin', question: 'Which bird?' };
const CHAT: SftRow = {
  messages: [
    { role: 'user', content: '<image>Which bird?' },
    { role: 'assistant', content: 'A robin.' },
  ],
  images: ['images/a.png'],
};

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'fr1-rows-'));
  mkdirSync(path.join(folder, 'images'));
  writeFileSync(path.join(folder, 'images/a.png'), 'a');
  writeFileSync(path.join(folder, 'images/b.png'), 'b');
});
afterEach(() => rmSync(folder, { recursive: true }));

describe('readImageData()', () => {
  it('gives back what was written, and counts the rows', async () => {
    await writeDataset(folder, INFO, [ROW, { ...ROW, id: 'b' }]);
    expect(await readImageData(folder)).toEqual({ info: { ...INFO, rows: 2 }, rows: [ROW, { ...ROW, id: 'b' }] });
  });

  it.each([
    ['a label that is no class', { label: 'Gull' }, /row "b": its label "Gull" is not among the classes/],
    ['a missing image', { image: 'images/c.png' }, /row "b": its image images\/c\.png does not exist/],
    ['an image outside the folder', { image: '../a.png' }, /lies outside/],
    ['a repeated id', { id: 'a' }, /same id/],
    ['attributes that are not texts', { attributes: { crown: 3 } }, /"attributes"/],
    ['a missing question', { question: undefined }, /"question" is not a text/],
  ])('refuses %s, naming row and line', async (_, change, message) => {
    await writeDataset(folder, INFO, [ROW, { ...ROW, id: 'b', ...change } as ImageRow]);
    await expect(readImageData(folder)).rejects.toMatchObject({
      code: 'DATA_ROW_INVALID',
      message: expect.stringMatching(message),
      at: { line: 2 },
    });
  });

  it('tells of the first five faulty rows and counts the rest', async () => {
    const rows = Array.from({ length: 9 }, (_, i) => ({ ...ROW, id: `${i}`, label: i < 2 ? 'Robin' : 'Gull' }));
    await writeDataset(folder, INFO, rows);
    const error = await readImageData(folder).catch((thrown: unknown) => thrown as Fr1Error);
    if (!(error instanceof Fr1Error)) throw new Error('nothing was refused');
    expect([error, ...error.others].map(({ at }) => at?.line)).toEqual([3, 4, 5, 6, 7]);
    expect(error.hint).toContain('further rows of the file with problems: 6 (the first 4');
  });

  it('refuses a folder without a proper dataset.json', async () => {
    await expect(readImageData(folder)).rejects.toMatchObject({ code: 'DATA_UNREADABLE' });
    await writeDataset(folder, { ...INFO, classes: [1] as unknown as string[] }, [ROW]);
    await expect(readImageData(folder)).rejects.toMatchObject({ code: 'DATA_UNREADABLE' });
  });
});

describe('readTripletData()', () => {
  const triplet: TripletRow = {
    id: 't',
    anchor: 'images/a.png',
    positive: 'images/a.png',
    negative: 'images/b.png',
    question: 'Which bird?',
    label: 'Robin',
    negativeLabel: 'Wren',
  };

  it('gives back what was written', async () => {
    await writeDataset(folder, INFO, [triplet]);
    expect((await readTripletData(folder)).rows).toEqual([triplet]);
  });

  it('refuses a negative of the same class', async () => {
    await writeDataset(folder, INFO, [{ ...triplet, negativeLabel: 'Robin' }]);
    await expect(readTripletData(folder)).rejects.toMatchObject({ code: 'DATA_ROW_INVALID' });
  });
});

describe('readSftData()', () => {
  it('gives back what was written', async () => {
    await writeSftData(folder, [CHAT]);
    expect(await readSftData(folder)).toEqual([CHAT]);
  });

  it.each([
    ['an image too many', { images: ['images/a.png', 'images/b.png'] }, /2 images for 1 <image> marks/],
    ['a missing image', { images: ['images/c.png'] }, /images\/c\.png does not exist/],
    ['an image outside the folder', { images: ['/etc/a.png'] }, /lies outside/],
    ['no answer', { messages: CHAT.messages.slice(0, 1) }, /last message/],
    ['an unknown role', { messages: [{ role: 'bird', content: 'x' }] }, /"role"/],
  ])('refuses a chat with %s, naming it', async (_, change, message) => {
    await writeSftData(folder, [CHAT, { ...CHAT, ...change } as SftRow]);
    const error = await readSftData(folder).catch((caught: unknown) => caught);
    expect(error).toMatchObject({ code: 'DATA_ROW_INVALID', message: expect.stringMatching(message) });
    expect((error as Error).message).toContain('chat 1');
  });

  it('refuses a file that is missing or holds no list', async () => {
    await expect(readSftData(folder)).rejects.toMatchObject({ code: 'DATA_UNREADABLE' });
    writeFileSync(path.join(folder, 'data.json'), '{}');
    await expect(readSftData(folder)).rejects.toMatchObject({ code: 'DATA_UNREADABLE' });
  });
});

describe('readEvalData()', () => {
  it.each([
    ['../a.png', /lies outside/],
    ['images/c.png', /does not exist/],
  ])('refuses the image %s', async (image, message) => {
    const row = { ...ROW, image, options: ['Robin', 'Wren'] };
    await writeDataset(folder, INFO, [row]);
    await expect(readEvalData(folder)).rejects.toMatchObject({
      code: 'DATA_ROW_INVALID',
      message: expect.stringMatching(message),
    });
  });
});

describe('linkImages()', () => {
  it('puts every image under the same path once', async () => {
    const target = path.join(folder, 'target');
    await linkImages(folder, target, ['images/a.png', 'images/b.png', 'images/a.png']);
    expect(readFileSync(path.join(target, 'images/a.png'), 'utf8')).toBe('a');
    expect(readFileSync(path.join(target, 'images/b.png'), 'utf8')).toBe('b');
  });

  it('fails when an image does not exist', async () => {
    await expect(linkImages(folder, path.join(folder, 'target'), ['images/c.png'])).rejects.toThrow('ENOENT');
  });
});
