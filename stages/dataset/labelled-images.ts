/**
 * Labelled images of official folders and of the user's own: classes are split, training images drawn, test items given
 * options. No image of a test is ever trained on: the bytes are compared, whatever the files are called.
 */
import path from 'node:path';
import { isStrings, readJsonObject } from '../../src/artifacts/json-lines.ts';
import { writeDataset } from '../../src/artifacts/rows.ts';
import type { DatasetInfo, EvalRow, ImageRow } from '../../src/artifacts/types.ts';
import { allTraining, byLabel, testImages, withTests } from '../../src/datasets/choose-images.ts';
import { type ClassSimilarity, groupSimilarity, nameSimilarity } from '../../src/datasets/class-similarity.ts';
import { hardOptions, type OptionMaker, WRONG_OPTIONS } from '../../src/datasets/hard-options.ts';
import { ImageLooker } from '../../src/datasets/image-looker.ts';
import { ImageStore, inParallel } from '../../src/datasets/image-store.ts';
import { questionsAbout } from '../../src/datasets/questions.ts';
import { isLabelledSource, readSource } from '../../src/datasets/read-source.ts';
import type { SourceClass, SourceData, SourceImage } from '../../src/datasets/source.ts';
import { type ClassSplit, listedSplit, randomSplit } from '../../src/datasets/split-classes.ts';
import { RandomStream } from '../../src/engine/random.ts';
import { Fr1Error } from '../../src/errors/fr1-error.ts';
import { lower } from '../../src/methods/python-text.ts';
import type { StageContext } from '../../src/run/stage-api.ts';
import type { Counts } from './counts.ts';
import { placeImages } from './image-places.ts';
import type { DatasetOptions } from './options.ts';
import { writeNoChats, writeNoTriplets } from './outputs.ts';
import { pictureSimilarity } from './picture-similarity.ts';
import { hashesOfTests } from './test-hashes.ts';

const DEFAULTS = {
  seenFraction: 0.6,
  sftShots: 1,
  rlShots: 4,
  similarity: 'names',
  optionPool: 6,
  optionOrder: 'shuffled',
  labelStyle: 'as-written',
  superCategory: 'object',
} as const;

type Context = StageContext<DatasetOptions>;
export type Settings = ReturnType<typeof settingsOf>;
/** What planning needs of a stage that runs or is checked. */
export type Planning = Pick<Context, 'options' | 'seed' | 'warn'>;

/** How many images are read at a time. */
const READS_AT_ONCE = 8;

/** What is read and chosen before any image is opened. */
export interface LabelledPlan {
  readonly settings: Settings;
  readonly source: SourceData;
  readonly split: ClassSplit;
  /** Of all classes; those of seen classes that are no tests may train. */
  readonly images: readonly SourceImage[];
  readonly tests: Readonly<Record<'seen' | 'unseen', readonly SourceImage[]>>;
  /** Rows left out because their file does not exist. */
  readonly missing: number;
}

/** Reads the lists, finds the files and splits classes and images. */
export async function planFromImages(context: Planning): Promise<LabelledPlan> {
  const settings = settingsOf(context);
  const { source, listed, missing } = await readAndLocate(context, settings);
  const split = await splitClasses(source, listed, settings);
  const alike = namesAlike([...split.seen, ...split.unseen]);
  if (alike !== null) {
    context.warn(
      `the classes "${alike.join('" and "')}" have one name by the rules of scoring; \`labelStyle: title\` makes them one`,
    );
  }
  const { seed, testImages: limit } = settings;
  const images =
    limit === 0 ? allTraining(source.images) : withTests(source.images, context.options.testFraction, seed);
  const tests = {
    seen: testImages(images, split.seen, limit, seed),
    unseen: testImages(images, split.unseen, limit, seed),
  };
  return { settings, source, split, images, tests, missing };
}

/** The first two classes that no score tells apart, which ignores case and takes `_` for a blank; null where there are none. */
function namesAlike(labels: readonly string[]): readonly [string, string] | null {
  const known = new Map<string, string>();
  for (const label of labels) {
    const name = lower(label).replaceAll('_', ' ');
    const other = known.get(name);
    if (other !== undefined) return [other, label];
    known.set(name, label);
  }
  return null;
}

/** Fills every output but `chats` and `triplets`. */
export async function makeFromImages(context: Context): Promise<Counts> {
  const { settings, source, split, images, tests, missing } = await planFromImages(context);
  const { seed } = settings;
  const looker = new ImageLooker(context.options.damagedImages);
  const makeOptions = await optionMaker(context, source, images, looker, settings);
  const work: Work = {
    context,
    questions: questionsAbout(source.superCategory),
    seed,
    looker,
    testHashes: new Set(),
    otherTests: await hashesOfTests(context),
    repeatedTests: 0,
    done: 0,
    total: tests.seen.length + tests.unseen.length + split.seen.length * (settings.sftShots + settings.rlShots),
  };
  const asked = { seen: 0, unseen: 0 };
  for (const name of ['seen', 'unseen'] as const) {
    const rows = await writeTests(work, context.outputs[name]!, tests[name], makeOptions);
    asked[name] = rows.length;
    await writeDataset(context.outputs[name]!, infoOf(source, name, split[name], settings), rows);
  }
  const drawn = await drawTraining(work, images, split.seen, settings);
  for (const use of ['sft', 'rl'] as const) {
    await writeDataset(context.outputs[use]!, infoOf(source, 'train', split.seen, settings), drawn[use]);
  }
  looker.finish(context.warn);
  await writeNoChats(context);
  await writeNoTriplets(context, source.name, source.superCategory);
  if (work.repeatedTests > 0) context.warn(`${work.repeatedTests} test images repeat another one; each is asked`);
  if (drawn.leaks > 0) context.warn(`${drawn.leaks} training images are also test images; none of them is used`);
  if (drawn.repeated > 0) context.warn(`${drawn.repeated} training images repeat another one; each is used once`);
  return {
    seenClasses: split.seen.length,
    unseenClasses: split.unseen.length,
    sftImages: drawn.sft.length,
    rlImages: drawn.rl.length,
    seenTestImages: asked.seen,
    unseenTestImages: asked.unseen,
    chats: 0,
    triplets: 0,
    leftOut: missing + drawn.leaks + drawn.repeated + looker.leftOut,
  };
}

/** What making the outputs shares. */
interface Work {
  readonly context: Context;
  readonly questions: readonly string[];
  readonly seed: number;
  readonly looker: ImageLooker;
  /** Content hashes of all test images made here. */
  readonly testHashes: Set<string>;
  /** Those of other stages' test images. */
  readonly otherTests: ReadonlySet<string>;
  /** Test images with the bytes of another one. */
  repeatedTests: number;
  done: number;
  readonly total: number;
}

/** Options with the defaults of these sources. */
function settingsOf({ options, seed }: Planning) {
  return { ...DEFAULTS, ...options, root: options.root!.path, seed: options.seed ?? seed };
}

/** The source's data, images at their places; rows without a file are refused or left out. */
async function readAndLocate(
  context: Planning,
  settings: Settings,
): Promise<{ source: SourceData; listed: readonly string[]; missing: number }> {
  const { options } = context;
  if (!isLabelledSource(options.source)) throw new RangeError(`${options.source} is no source of labelled images`);
  const trains = settings.sftShots + settings.rlShots > 0 || settings.similarity === 'embedding';
  const cutsTests = options.testFraction !== undefined;
  const read = await readSource(options.source, {
    root: settings.root,
    name: options.name ?? path.parse(settings.root).name,
    superCategory: settings.superCategory,
    labelStyle: settings.labelStyle,
    fields: options.fields ?? {},
    needs: { train: trains || cutsTests, test: options.testImages !== 0 && !cutsTests },
  });
  const { images, missing } = placeImages(context, read.images);
  const labels = new Set(images.map(({ label }) => label));
  const classes = read.classes.filter(({ label }) => labels.has(label));
  return {
    source: { ...read, classes: await withHierarchy(classes, options), images },
    listed: read.classes.map(({ label }) => label),
    missing,
  };
}

/** Classes with the groups of the user's file, where one is given. */
async function withHierarchy(
  classes: readonly SourceClass[],
  { hierarchy }: DatasetOptions,
): Promise<readonly SourceClass[]> {
  if (hierarchy === undefined) return classes;
  const given = await readJsonObject(hierarchy.path);
  return classes.map(({ label }) => {
    const groups = given[label];
    if (!isStrings(groups)) {
      throw new Fr1Error('DATA_ROW_INVALID', `${hierarchy.path} has no list of groups for the class "${label}"`);
    }
    return { label, groups };
  });
}

/** @param listed every class of the source, also those without an image that is there */
async function splitClasses(source: SourceData, listed: readonly string[], settings: Settings): Promise<ClassSplit> {
  const labels = source.classes.map(({ label }) => label);
  if (settings.split !== undefined) {
    const { seen, unseen } = await listedSplit(settings.split.path, source.superCategory, listed);
    const present = new Set(labels);
    return { seen: seen.filter((label) => present.has(label)), unseen: unseen.filter((label) => present.has(label)) };
  }
  const seen = settings.seenClasses ?? Math.floor(settings.seenFraction * labels.length);
  return randomSplit(labels, seen, settings.unseenClasses ?? Math.max(0, labels.length - seen), settings.seed);
}

async function optionMaker(
  context: Context,
  source: SourceData,
  images: readonly SourceImage[],
  looker: ImageLooker,
  settings: Settings,
): Promise<OptionMaker> {
  const labels = source.classes.map(({ label }) => label);
  const { optionPool: pool, optionOrder: order, seed } = settings;
  if (settings.testImages === 0) return () => [];
  if (labels.length <= WRONG_OPTIONS) {
    throw new Fr1Error('DATA_INSUFFICIENT', `${labels.length} classes are too few for questions with four options`, {
      hint: 'add classes, or make no test items with testImages: 0',
    });
  }
  return hardOptions(labels, await similarityOf(context, source, images, looker, settings), { pool, order, seed });
}

async function similarityOf(
  context: Context,
  source: SourceData,
  images: readonly SourceImage[],
  looker: ImageLooker,
  { similarity, model, seed }: Settings,
): Promise<ClassSimilarity | null> {
  switch (similarity) {
    case 'random':
      return null;
    case 'names':
      return nameSimilarity;
    case 'hierarchy':
      if (source.classes.every(({ groups }) => groups.length === 0)) {
        throw new Fr1Error('DATA_INSUFFICIENT', `${source.name} tells no groups of its classes`, {
          hint: 'give a file of groups as `hierarchy`, or take similarity: names',
        });
      }
      return groupSimilarity(source.classes);
    case 'embedding':
      return pictureSimilarity(context, byLabel(images), model!.path, looker, seed);
    default:
      return similarity satisfies never;
  }
}

function infoOf(
  source: SourceData,
  split: DatasetInfo['split'],
  classes: readonly string[],
  settings: Settings,
): Omit<DatasetInfo, 'rows'> {
  const wanted = new Set(classes);
  const groups = source.classes.filter((each) => wanted.has(each.label) && each.groups.length > 0);
  const { similarity, optionPool, optionOrder, seed, model } = settings;
  return {
    name: source.name,
    superCategory: source.superCategory,
    split,
    classes,
    ...(groups.length > 0 && { groups: Object.fromEntries(groups.map((each) => [each.label, each.groups])) }),
    choices: {
      seed,
      ...(split !== 'train' && { similarity, optionPool, optionOrder, ...(model && { model: model.digest }) }),
    },
  };
}

/** Copies the test images and writes a question with four options for each. */
async function writeTests(
  work: Work,
  folder: string,
  images: readonly SourceImage[],
  makeOptions: OptionMaker,
): Promise<EvalRow[]> {
  const store = new ImageStore(folder);
  const rows: (EvalRow | null)[] = new Array(images.length);
  await inParallel(images, READS_AT_ONCE, async (image, index) => {
    work.context.signal.throwIfAborted();
    rows[index] = null;
    step(work);
    const seen = await work.looker.look(image);
    if (seen === null) return;
    if (work.testHashes.has(seen.hash)) work.repeatedTests++;
    work.testHashes.add(seen.hash);
    await store.add(seen);
    const { id, label } = image;
    const options = image.options ?? makeOptions(label, id);
    rows[index] = { id, image: seen.name, label, question: questionOf(work, image), options };
  });
  return rows.filter((row) => row !== null);
}

interface Drawn {
  readonly sft: ImageRow[];
  readonly rl: ImageRow[];
  /** Training images passed over because a test shows them. */
  leaks: number;
  /** Training images passed over because another one is the same. */
  repeated: number;
}

/**
 * Draws the shots of every seen class from its training images in an order that the seed fixes: those for fine-tuning from the
 * front, those for reinforcement from the back, so that a change of one count leaves the other images alone.
 *
 * @throws DATA_INSUFFICIENT when a class has too few images
 */
async function drawTraining(
  work: Work,
  images: readonly SourceImage[],
  classes: readonly string[],
  { sftShots, rlShots }: Settings,
): Promise<Drawn> {
  const drawn: Drawn = { sft: [], rl: [], leaks: 0, repeated: 0 };
  const stores = { sft: new ImageStore(work.context.outputs['sft']!), rl: new ImageStore(work.context.outputs['rl']!) };
  const groups = byLabel(images.filter(({ split }) => split === 'train'));
  const used = new Map<string, SourceImage>();
  const passedOver = new Set<SourceImage>();
  const draw = async (use: 'sft' | 'rl', label: string, shots: number, order: readonly SourceImage[]) => {
    let count = 0;
    for (const image of order) {
      if (count === shots) return;
      if (passedOver.has(image)) continue;
      work.context.signal.throwIfAborted();
      const seen = await work.looker.look(image);
      if (seen === null) {
        passedOver.add(image);
        continue;
      }
      const before = used.get(seen.hash);
      // The end that the other use began at.
      if (before === image) break;
      const isTested = work.testHashes.has(seen.hash) || work.otherTests.has(seen.hash);
      if (isTested || before !== undefined) {
        passedOver.add(image);
        if (before === undefined) drawn.leaks++;
        else drawn.repeated++;
        continue;
      }
      used.set(seen.hash, image);
      await stores[use].add(seen);
      const { id, attributes } = image;
      const row = { id, image: seen.name, label, question: questionOf(work, image) };
      drawn[use].push(attributes === undefined ? row : { ...row, attributes });
      count++;
      step(work);
    }
    if (count < shots) {
      work.looker.finish(work.context.warn);
      throw tooFew(label, order.length, sftShots, rlShots);
    }
  };
  for (const label of classes) {
    const order = new RandomStream('dataset', 'shots', work.seed, label).shuffled(groups.get(label) ?? []);
    await draw('sft', label, sftShots, order);
    await draw('rl', label, rlShots, order.toReversed());
  }
  return drawn;
}

function tooFew(label: string, has: number, sftShots: number, rlShots: number): Fr1Error {
  const asked = `${sftShots} for fine-tuning and ${rlShots} for reinforcement`;
  return new Fr1Error(
    'DATA_INSUFFICIENT',
    `class "${label}" has too few training images: ${has} are listed, wanted are ${asked} that differ from each other and from all test images`,
    { hint: 'lower sftShots or rlShots' },
  );
}

function questionOf({ questions, seed }: Work, { id, question }: SourceImage): string {
  return question ?? new RandomStream('dataset', 'question', seed, id).choice(questions);
}

function step(work: Work): void {
  work.done++;
  if (work.done % 25 === 0 || work.done === work.total) {
    work.context.progress({ done: work.done, total: work.total, unit: 'images' });
  }
}
