/**
 * The source easyr1: triplets that were made elsewhere, such as the second-stage data of Fine-R1. Its columns `images`,
 * `image_noisy` and `image_aug` are the anchor, the positive and the negative; the plain names are taken as well.
 */
import path from 'node:path';
import { isRecord, readJsonLines } from '../../src/artifacts/json-lines.ts';
import { writeDataset } from '../../src/artifacts/rows.ts';
import type { TripletRow } from '../../src/artifacts/types.ts';
import { filesBelow, nameBelow, splitOfName } from '../../src/datasets/files-below.ts';
import { ImageLooker, type LookedAt } from '../../src/datasets/image-looker.ts';
import { ImageStore } from '../../src/datasets/image-store.ts';
import { imageBytes, imageCount, ParquetFile } from '../../src/datasets/parquet-file.ts';
import type { ImageContent, SourceImage } from '../../src/datasets/source.ts';
import { Fr1Error, type SourcePosition } from '../../src/errors/fr1-error.ts';
import type { StageContext } from '../../src/run/stage-api.ts';
import { type Counts, NO_COUNTS } from './counts.ts';
import { placeImages } from './image-places.ts';
import type { DatasetOptions } from './options.ts';
import { writeNoChats, writeNoTests, writeNoTraining } from './outputs.ts';
import { hashesOfTests } from './test-hashes.ts';

const VIEWS = ['anchor', 'positive', 'negative'] as const;
type View = (typeof VIEWS)[number];
type Column = View | 'question' | 'label';

/** What each column is called, the names of the released data first. */
const NAMES: Readonly<Record<Column, readonly string[]>> = {
  anchor: ['images', 'anchor'],
  positive: ['image_noisy', 'positive'],
  negative: ['image_aug', 'negative'],
  question: ['problem', 'question'],
  label: ['answer', 'label'],
};

interface ListedTriplet {
  readonly id: string;
  readonly question: string;
  readonly label: string;
  readonly views: Readonly<Record<View, Pick<SourceImage, 'id' | 'content' | 'at'>>>;
}

/**
 * All triplets of a file or of the files of a folder that are not named after a test, images not yet opened.
 *
 * @throws DATA_UNREADABLE, DATA_ROW_INVALID, DATA_INSUFFICIENT
 */
export async function readListedTriplets(root: string, warn: (message: string) => void): Promise<ListedTriplet[]> {
  const listed: ListedTriplet[] = [];
  const files = filesBelow(root, new Set(['.parquet', '.jsonl']));
  const isTest = (file: string) =>
    path
      .relative(root, file)
      .split(path.sep)
      .some((name) => splitOfName(name) === 'test');
  const tests = files.filter(isTest).map((file) => path.relative(root, file));
  if (tests.length === files.length) {
    throw new Fr1Error('DATA_INSUFFICIENT', `${root} holds no triplets but those of tests: ${tests.join(', ')}`, {
      hint: 'give the file itself as root to train on it all the same',
    });
  }
  if (tests.length > 0) warn(`${tests.join(', ')} in ${root}: named after a test, so not trained on`);
  for (const file of files.filter((file) => !isTest(file))) {
    const name = nameBelow(root, file);
    listed.push(...(file.endsWith('.parquet') ? await readParquet(file, name) : await readLines(file, name)));
  }
  if (listed.length === 0) throw new Fr1Error('DATA_INSUFFICIENT', `${root} holds no triplets`);
  return listed;
}

export function imagesOf(listed: readonly ListedTriplet[]) {
  return listed.flatMap(({ views }) => VIEWS.map((view) => views[view]));
}

/** Fills `triplets`. */
export async function importTriplets(context: StageContext<DatasetOptions>): Promise<Counts> {
  const { root, name = 'easyr1', superCategory = 'object' } = context.options;
  const listed = await readListedTriplets(root!.path, context.warn);
  const { images } = placeImages(context, imagesOf(listed));
  const placed = new Map(images.map((image) => [image.id, image]));
  const output = context.outputs['triplets']!;
  const store = new ImageStore(output);
  const rows: TripletRow[] = [];
  const looker = new ImageLooker(context.options.damagedImages);
  const tested = await hashesOfTests(context);
  let leaks = 0;
  for (const [done, { id, question, label, views }] of listed.entries()) {
    context.signal.throwIfAborted();
    const found = VIEWS.map((view) => placed.get(views[view].id));
    if (found.includes(undefined)) continue;
    const looked: (LookedAt | null)[] = [];
    for (const image of found) looked.push(await looker.look(image!));
    const seen = looked.filter((one) => one !== null);
    if (seen.length < VIEWS.length) continue;
    if (seen.some(({ hash }) => tested.has(hash))) {
      leaks++;
      continue;
    }
    for (const one of seen) await store.add(one);
    const [anchor, positive, negative] = seen.map((one) => one.name) as [string, string, string];
    rows.push({ id, anchor, positive, negative, question, label });
    if ((done + 1) % 25 === 0 || done + 1 === listed.length) {
      context.progress({ done: done + 1, total: listed.length, unit: 'triplets' });
    }
  }
  looker.finish(context.warn);
  if (leaks > 0) context.warn(`${leaks} triplets show test images; none of them is used`);
  const classes = [...new Set(rows.map(({ label }) => label))].sort();
  await writeDataset(output, { name, superCategory, split: 'train', classes }, rows);
  await writeNoTraining(context, name, superCategory);
  await writeNoTests(context, name, superCategory);
  await writeNoChats(context);
  return { ...NO_COUNTS, seenClasses: classes.length, triplets: rows.length, leftOut: listed.length - rows.length };
}

/** @throws DATA_UNREADABLE, DATA_ROW_INVALID naming file and row, counted from 0 */
async function readParquet(path_: string, name: string): Promise<ListedTriplet[]> {
  const file = await ParquetFile.open(path_);
  const column = Object.fromEntries(
    Object.entries(NAMES).map(([key, names]) => [key, names.find((name) => file.columns.includes(name))]),
  ) as Record<Column, string | undefined>;
  const lacking = (Object.keys(NAMES) as Column[]).find((key) => column[key] === undefined);
  if (lacking !== undefined) {
    const has = file.columns.join(', ');
    throw new Fr1Error('DATA_UNREADABLE', `${path_} has no column ${NAMES[lacking].join(' or ')}; it has: ${has}`, {
      hint: 'images with labels alone are read by source: parquet, e.g. with fields: { image: images, label: answer, question: problem }; `uses: triplets` then makes triplets of them',
    });
  }
  const names = column as Record<Column, string>;
  const texts = await file.rows([names.question, names.label]);
  return texts.map((row, index): ListedTriplet => {
    const id = `${name}-${String(index).padStart(5, '0')}`;
    const problem = (text: string) => new Fr1Error('DATA_ROW_INVALID', `${path_}: row ${index}: ${text}`);
    const [question, label] = [row[names.question], row[names.label]];
    if (typeof question !== 'string') throw problem(`"${names.question}" is not a text`);
    const tooMany = severalMarks(question);
    if (tooMany !== null) throw problem(tooMany);
    if (typeof label !== 'string' || label === '') throw problem(`"${names.label}" is not a text`);
    const view = (key: View): ListedTriplet['views'][View] => {
      const content: ImageContent = {
        kind: 'bytes',
        name: `${id}-${key}`,
        async read() {
          const cells = await file.row(
            index,
            VIEWS.map((each) => names[each]),
          );
          const cell = cells[names[key]];
          if (imageCount(cell) !== 1) throw problem(`"${names[key]}" holds ${imageCount(cell)} images instead of 1`);
          const bytes = imageBytes(cell);
          if (bytes === undefined) throw problem(`"${names[key]}" holds no bytes of an image`);
          return bytes;
        },
      };
      return { id: `${id} ${key}`, content };
    };
    const views = { anchor: view('anchor'), positive: view('positive'), negative: view('negative') };
    return { id, question, label, views };
  });
}

/** What is wrong with a question about several images; null for one that places its image, or leaves that to the prompt. */
function severalMarks(question: string): string | null {
  const marks = question.split('<image>').length - 1;
  return marks > 1 ? `its question has ${marks} <image> marks; questions about one image are read` : null;
}

/** JSON lines with paths of images instead of bytes. */
async function readLines(file: string, fileName: string): Promise<ListedTriplet[]> {
  return readJsonLines<ListedTriplet>(file, (row, line) => {
    if (!isRecord(row)) return { problem: 'it is not an object' };
    const at: SourcePosition = { file, line, col: 1 };
    const id = `${fileName}-${line}`;
    const found = new Map<Column, string>();
    for (const [key, names] of Object.entries(NAMES)) {
      const value = names.map((name) => row[name]).find((each) => each !== undefined);
      const text = Array.isArray(value) && value.length === 1 ? (value[0] as unknown) : value;
      if (typeof text !== 'string' || text === '') return { problem: `"${names.join('" or "')}" is not a text` };
      found.set(key as Column, text);
    }
    const tooMany = severalMarks(found.get('question')!);
    if (tooMany !== null) return { problem: tooMany };
    const view = (key: View): ListedTriplet['views'][View] => {
      const name = found.get(key)!;
      return { id: `${id} ${key}`, content: { kind: 'file', path: path.resolve(path.dirname(file), name), name }, at };
    };
    const views = { anchor: view('anchor'), positive: view('positive'), negative: view('negative') };
    return { id, question: found.get('question')!, label: found.get('label')!, views };
  });
}
