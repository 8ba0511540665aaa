/** The source procedural-birds: birds that are drawn on the spot. */
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { writeDataset } from '../../src/artifacts/rows.ts';
import type { DatasetInfo, EvalRow, ImageRow } from '../../src/artifacts/types.ts';
import { RandomStream } from '../../src/engine/random.ts';
import type { StageContext } from '../../src/run/stage-api.ts';
import { distractors } from '../../src/worlds/procedural-birds/options.ts';
import { QUESTIONS } from '../../src/worlds/procedural-birds/questions.ts';
import { type BirdImage, renderPng } from '../../src/worlds/procedural-birds/render.ts';
import { attributeWords, nameOf } from '../../src/worlds/procedural-birds/species.ts';
import { splitSpecies } from '../../src/worlds/procedural-birds/split.ts';
import type { Counts } from './counts.ts';
import { DEFAULTS } from './defaults.ts';
import type { DatasetOptions } from './options.ts';
import { writeNoChats, writeNoTriplets } from './outputs.ts';

/** First image index of each use: images of different uses never coincide, whatever the shot counts. */
const FIRST_INDEX = { sft: 0, rl: 1_000_000, test: 2_000_000 } as const;
const RENDERS_AT_ONCE = 8;

type Use = keyof typeof FIRST_INDEX;

interface PlannedImage {
  readonly image: BirdImage;
  readonly folder: string;
  /** Relative to the folder. */
  readonly file: string;
}

/** Draws all images; fills every output but `chats` and `triplets`. */
export async function makeProceduralBirds(context: StageContext<DatasetOptions>): Promise<Counts> {
  const options = { ...DEFAULTS, ...context.options };
  const seed = options.seed ?? context.seed;
  const { seen, unseen } = splitSpecies(seed, options.seenClasses, options.unseenClasses);
  const sft = trainImages(context, 'sft', seed, seen, options.sftShots);
  const rl = trainImages(context, 'rl', seed, seen, options.rlShots);
  const seenTest = testItems(context, 'seen', seed, seen, options.testImages);
  const unseenTest = testItems(context, 'unseen', seed, unseen, options.testImages);
  const parts = [sft, rl, seenTest, unseenTest];
  for (const { folder, info, rows } of parts) await writeDataset(folder, info, rows);
  await writeNoChats(context);
  await writeNoTriplets(context, 'procedural-birds', 'bird');
  await render(
    context,
    parts.flatMap((part) => part.planned),
  );
  return {
    seenClasses: seen.length,
    unseenClasses: unseen.length,
    sftImages: sft.rows.length,
    rlImages: rl.rows.length,
    seenTestImages: seenTest.rows.length,
    unseenTestImages: unseenTest.rows.length,
    chats: 0,
    triplets: 0,
    leftOut: 0,
  };
}

interface Part<Row> {
  readonly folder: string;
  readonly info: Omit<DatasetInfo, 'rows'>;
  readonly rows: readonly Row[];
  readonly planned: readonly PlannedImage[];
}

function infoOf(split: DatasetInfo['split'], species: readonly number[]): Omit<DatasetInfo, 'rows'> {
  return { name: 'procedural-birds', superCategory: 'bird', split, classes: species.map(nameOf) };
}

/** `shots` images of every class, class by class. */
function trainImages(
  context: StageContext<DatasetOptions>,
  use: 'sft' | 'rl',
  seed: number,
  classes: readonly number[],
  shots: number,
): Part<ImageRow> {
  const folder = context.outputs[use]!;
  const stream = new RandomStream('dataset', use, seed);
  const made = classes.flatMap((species) =>
    Array.from({ length: shots }, (_, shot) => {
      const planned = planImage(folder, use, seed, species, shot, `${use}-${species}-${shot}`);
      const row: ImageRow = {
        id: `${use}-${species}-${shot}`,
        image: planned.file,
        label: nameOf(species),
        question: stream.choice(QUESTIONS),
        attributes: attributeWords(species),
      };
      return { planned, row };
    }),
  );
  return {
    folder,
    info: infoOf('train', classes),
    rows: made.map(({ row }) => row),
    planned: made.map(({ planned }) => planned),
  };
}

/** `total` test items, the classes taking turns. The right option stands first; the evaluation shuffles. */
function testItems(
  context: StageContext<DatasetOptions>,
  split: 'seen' | 'unseen',
  seed: number,
  classes: readonly number[],
  total: number,
): Part<EvalRow> {
  const folder = context.outputs[split]!;
  const stream = new RandomStream('dataset', split, seed);
  const made = Array.from({ length: total }, (_, item) => {
    const species = classes[item % classes.length]!;
    const shot = Math.floor(item / classes.length);
    const planned = planImage(folder, 'test', seed, species, shot, `${split}-${species}-${shot}`);
    const row: EvalRow = {
      id: `${split}-${species}-${shot}`,
      image: planned.file,
      label: nameOf(species),
      question: stream.choice(QUESTIONS),
      options: [species, ...distractors(species, classes, stream)].map(nameOf),
    };
    return { planned, row };
  });
  return {
    folder,
    info: infoOf(split, classes),
    rows: made.map(({ row }) => row),
    planned: made.map(({ planned }) => planned),
  };
}

function planImage(folder: string, use: Use, seed: number, species: number, shot: number, id: string): PlannedImage {
  const image: BirdImage = { namespace: 'dataset', seed, species, index: FIRST_INDEX[use] + shot };
  return { image, folder, file: `images/${id}.png` };
}

/** Draws and writes all images, a few at a time. */
async function render(context: StageContext<DatasetOptions>, images: readonly PlannedImage[]): Promise<void> {
  for (const folder of new Set(images.map((planned) => planned.folder))) {
    await mkdir(path.join(folder, 'images'), { recursive: true });
  }
  let next = 0;
  let done = 0;
  const worker = async () => {
    while (next < images.length) {
      context.signal.throwIfAborted();
      const { image, folder, file } = images[next++]!;
      try {
        await writeFile(path.join(folder, file), await renderPng(image));
      } catch (error) {
        // The other workers stop as well.
        next = images.length;
        throw error;
      }
      done++;
      if (done % 25 === 0 || done === images.length) {
        context.progress({ done, total: images.length, unit: 'images' });
      }
    }
  };
  await Promise.all(Array.from({ length: RENDERS_AT_ONCE }, worker));
}
