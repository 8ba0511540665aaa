/** The source fine-r1-eval: test items in Fine-R1's JSON lines, `<category>_seen.jsonl` and `<category>_unseen.jsonl`. */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { isRecord, isStrings, type RowProblem, readJsonLines } from '../../src/artifacts/json-lines.ts';
import { writeDataset } from '../../src/artifacts/rows.ts';
import type { EvalRow } from '../../src/artifacts/types.ts';
import { filesBelow } from '../../src/datasets/files-below.ts';
import { ImageLooker } from '../../src/datasets/image-looker.ts';
import { ImageStore, inParallel } from '../../src/datasets/image-store.ts';
import type { SourceImage } from '../../src/datasets/source.ts';
import { Fr1Error } from '../../src/errors/fr1-error.ts';
import type { StageContext } from '../../src/run/stage-api.ts';
import { type Counts, NO_COUNTS } from './counts.ts';
import { placeImages } from './image-places.ts';
import type { DatasetOptions } from './options.ts';
import { writeNoChats, writeNoTraining, writeNoTriplets } from './outputs.ts';

const READS_AT_ONCE = 8;
/** Of an item in the released files. */
const OPTIONS = 4;

type EvalImage = SourceImage & Required<Pick<SourceImage, 'question' | 'options'>>;

/** Fills `seen` and `unseen`. Options keep the order of the files. */
export async function importEvalFiles(context: StageContext<DatasetOptions>): Promise<Counts> {
  const root = context.options.root!.path;
  const category = context.options.superCategory ?? onlyCategory(root);
  const name = `fine-r1-${category}`;
  const listed = {
    seen: await readEvalItems(root, category, 'seen'),
    unseen: await readEvalItems(root, category, 'unseen'),
  };
  const placed = placeImages(context, [...listed.seen, ...listed.unseen]);
  const idsOfSeen = new Set(listed.seen.map(({ id }) => id));
  const images = {
    seen: placed.images.filter(({ id }) => idsOfSeen.has(id)),
    unseen: placed.images.filter(({ id }) => !idsOfSeen.has(id)),
  };
  const looker = new ImageLooker(context.options.damagedImages);
  const kept = { seen: [] as EvalRow[], unseen: [] as EvalRow[] };
  const total = placed.images.length;
  const hashes = new Set<string>();
  let repeats = 0;
  let done = 0;
  for (const split of ['seen', 'unseen'] as const) {
    const folder = context.outputs[split]!;
    const store = new ImageStore(folder);
    const rows: (EvalRow | null)[] = new Array(images[split].length);
    await inParallel(images[split], READS_AT_ONCE, async (image, index) => {
      context.signal.throwIfAborted();
      done++;
      if (done % 25 === 0 || done === total) context.progress({ done, total, unit: 'images' });
      rows[index] = null;
      const seen = await looker.look(image);
      if (seen === null) return;
      await store.add(seen);
      if (hashes.has(seen.hash)) repeats++;
      hashes.add(seen.hash);
      const { id, label, question, options, content } = image;
      const sourcePath = content.kind === 'file' ? { sourcePath: content.name } : {};
      rows[index] = { id, image: seen.name, label, question, options, ...sourcePath };
    });
    kept[split] = rows.filter((row) => row !== null);
    const classes = [...new Set(kept[split].map(({ label }) => label))];
    await writeDataset(folder, { name, superCategory: category, split, classes }, kept[split]);
  }
  looker.finish(context.warn);
  for (const warning of oddities(kept, repeats)) context.warn(warning);
  await writeNoTraining(context, name, category);
  await writeNoChats(context);
  await writeNoTriplets(context, name, category);
  return {
    ...NO_COUNTS,
    seenClasses: new Set(kept.seen.map(({ label }) => label)).size,
    unseenClasses: new Set(kept.unseen.map(({ label }) => label)).size,
    seenTestImages: kept.seen.length,
    unseenTestImages: kept.unseen.length,
    leftOut: placed.missing + looker.leftOut,
  };
}

/** What the released files do not have, and what makes accuracies of others mean less than they seem to. */
function oddities(
  { seen, unseen }: Readonly<Record<'seen' | 'unseen', readonly EvalRow[]>>,
  repeats: number,
): string[] {
  const rows = [...seen, ...unseen];
  const classesOfSeen = new Set(seen.map(({ label }) => label));
  const shared = [...new Set(unseen.map(({ label }) => label))].filter((label) => classesOfSeen.has(label));
  const odd = rows.filter(({ options }) => options.length !== OPTIONS);
  return [
    ...(repeats > 0 ? [`${repeats} test images repeat another one; each is asked`] : []),
    ...(shared.length > 0 ? [`${shared.length} classes are both seen and unseen, e.g. "${shared[0]}"`] : []),
    ...(odd.length > 0
      ? [
          `${odd.length} test items have another number of options than ${OPTIONS}, e.g. "${odd[0]!.id}" ${odd[0]!.options.length}`,
        ]
      : []),
  ];
}

/** The category of the files in the folder, where there is one. */
export function onlyCategory(root: string): string {
  const names = filesBelow(root, new Set(['.jsonl'])).map((file) => path.basename(file));
  const categories = [...new Set(names.flatMap((name) => /^(.+)_(?:un)?seen\.jsonl$/.exec(name)?.[1] ?? []))];
  if (categories.length === 1) return categories[0]!;
  throw new Fr1Error(
    'DATA_UNREADABLE',
    categories.length === 0
      ? `${root} holds no <category>_seen.jsonl`
      : `${root} holds several categories: ${categories.join(', ')}`,
    { hint: 'say which one as superCategory, e.g. superCategory: bird' },
  );
}

/**
 * The items of one list, images where the list says.
 *
 * @throws DATA_UNREADABLE, DATA_ROW_INVALID with file and line
 */
export async function readEvalItems(root: string, category: string, split: 'seen' | 'unseen'): Promise<EvalImage[]> {
  const file = path.join(root, `${category}_${split}.jsonl`);
  if (!existsSync(file)) {
    throw new Fr1Error('DATA_UNREADABLE', `${file} does not exist`, {
      hint: 'root is the folder of the evaluation files, superCategory the first word of their names',
    });
  }
  return readJsonLines<EvalImage>(file, (row, line) => evalImage(row, file, line, `${category}_${split}`));
}

function evalImage(row: unknown, file: string, line: number, list: string): EvalImage | RowProblem {
  if (!isRecord(row)) return { problem: 'it is not an object' };
  const { image_path: name, question, options, ground_truth: label } = row;
  for (const [key, text] of Object.entries({ image_path: name, question, ground_truth: label })) {
    if (typeof text !== 'string' || text === '') return { problem: `"${key}" is not a text` };
  }
  if (!isStrings(options)) return { problem: '"options" is not a list of texts' };
  if (new Set(options).size !== options.length) return { problem: 'two of its options are the same' };
  if (!options.includes(label as string)) return { problem: `its label "${label}" is not among its options` };
  return {
    id: `${list}-${line}`,
    label: label as string,
    split: 'test',
    content: { kind: 'file', path: path.resolve(path.dirname(file), name as string), name: name as string },
    at: { file, line, col: 1 },
    question: question as string,
    options,
  };
}
