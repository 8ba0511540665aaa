/**
 * Makes a dataset of seen and unseen classes, or takes over rows that were made elsewhere. Each group of sources has a file
 * of its own; this one chooses among them and knows which options mean something for which source.
 */
import { loadStageSchema } from '../../src/run/load-schema.ts';
import { defineStage, type OptionProblem } from '../../src/run/stage-api.ts';
import { MAX_CLASSES } from '../../src/worlds/procedural-birds/families.ts';
import { NO_COUNTS } from './counts.ts';
import { DEFAULTS } from './defaults.ts';
import { emptyOutputs } from './empty-outputs.ts';
import type { DatasetOptions } from './options.ts';

export const datasetStage = defineStage<DatasetOptions>({
  kind: 'dataset',
  summary: 'Makes labelled images for training and test items of seen and unseen classes.',
  version: 3,
  schema: loadStageSchema(import.meta.url),
  outputs: {
    sft: { type: 'image-data', description: 'images of the seen classes for fine-tuning' },
    rl: { type: 'image-data', description: 'other images of the seen classes, for reinforcement' },
    seen: { type: 'eval-data', description: 'test items of the seen classes' },
    unseen: { type: 'eval-data', description: 'test items of the unseen classes' },
    chats: { type: 'sft-data', description: 'chats that were made elsewhere; empty but for the source sharegpt' },
    triplets: {
      type: 'triplet-data',
      description: 'triplets that were made elsewhere; empty but for the source easyr1',
    },
  },
  metrics: Object.keys(NO_COUNTS),
  switches: switchesOf,
  emptyOutputs,
  resources: ({ similarity }) => ({ device: similarity === 'embedding' }),
  validate,
  async check(context) {
    const { checkDataset } = await import('./check.ts');
    await checkDataset(context);
  },
  async run(context) {
    const { runDataset } = await import('./run.ts');
    return runDataset(context);
  },
});

type Source = DatasetOptions['source'];
type OptionName = keyof DatasetOptions;

const OFFICIAL: readonly Source[] = [
  'fgvc-aircraft',
  'cub-200-2011',
  'stanford-cars',
  'stanford-dogs',
  'oxford-flowers-102',
  'oxford-iiit-pet',
];
const LISTS: readonly Source[] = ['jsonl', 'parquet'];
const OWN: readonly Source[] = ['image-folder', ...LISTS];
const LABELLED: readonly Source[] = [...OFFICIAL, ...OWN];
const DRAWN: readonly Source[] = ['procedural-birds'];
const ROWS: readonly Source[] = ['sharegpt', 'easyr1', 'fine-r1-eval'];

/** The sources for which an option means something, where it does not for all. */
const MEANT_FOR: Readonly<Partial<Record<OptionName, readonly Source[]>>> = {
  root: [...LABELLED, ...ROWS],
  images: [...LABELLED, ...ROWS],
  notIn: [...LABELLED, 'sharegpt', 'easyr1'],
  seenClasses: [...DRAWN, ...LABELLED],
  unseenClasses: [...DRAWN, ...LABELLED],
  seenFraction: LABELLED,
  split: LABELLED,
  sftShots: [...DRAWN, ...LABELLED],
  rlShots: [...DRAWN, ...LABELLED],
  testImages: [...DRAWN, ...LABELLED],
  testFraction: LABELLED,
  similarity: LABELLED,
  hierarchy: LABELLED,
  model: LABELLED,
  optionPool: LABELLED,
  optionOrder: LABELLED,
  labelStyle: OWN,
  name: [...OWN, 'easyr1'],
  superCategory: [...OWN, 'easyr1', 'fine-r1-eval'],
  fields: LISTS,
};

/** The place of the right option in the test items that are made or taken over. */
function switchesOf({ source, optionOrder }: DatasetOptions): Record<string, string> {
  if (source === 'fine-r1-eval') return { optionOrder: 'as-shipped' };
  return LABELLED.includes(source) ? { optionOrder: optionOrder ?? 'shuffled' } : {};
}

function validate(options: DatasetOptions): OptionProblem[] {
  const { source } = options;
  const problems: OptionProblem[] = [];
  for (const [name, sources] of Object.entries(MEANT_FOR)) {
    if (options[name as OptionName] === undefined || sources.includes(source)) continue;
    problems.push({
      pointer: `/${name}`,
      message: `"${name}" means nothing for the source ${source}`,
      hint: 'remove it',
    });
  }
  if (source === 'procedural-birds') return [...problems, ...tooManySpecies(options)];
  if (options.root === undefined) {
    problems.push({
      pointer: '',
      message: `the source ${source} needs "root", the folder of its files`,
      hint: 'docs/datasets.md tells where each dataset comes from and how its folder looks',
    });
  }
  const ways = (['seenClasses', 'seenFraction', 'split'] as const).filter((name) => options[name] !== undefined);
  if (ways.length > 1) {
    problems.push({ pointer: `/${ways[1]}`, message: `${ways.join(' and ')} both say which classes are seen` });
  }
  if ((options.similarity === 'embedding') !== (options.model !== undefined)) {
    const pointer = options.model === undefined ? '/similarity' : '/model';
    problems.push({ pointer, message: 'similarity: embedding and model go together' });
  }
  if (options.hierarchy !== undefined && options.similarity !== 'hierarchy') {
    problems.push({ pointer: '/hierarchy', message: 'hierarchy is read for similarity: hierarchy only' });
  }
  return problems;
}

function tooManySpecies(options: DatasetOptions): OptionProblem[] {
  const { seenClasses, unseenClasses } = { ...DEFAULTS, ...options };
  const problems: OptionProblem[] = [];
  for (const [name, count] of Object.entries({ seenClasses, unseenClasses })) {
    if (count < 4)
      problems.push({ pointer: `/${name}`, message: `procedural-birds takes families of 4, so ${name} is at least 4` });
  }
  if (seenClasses + unseenClasses > MAX_CLASSES) {
    problems.push({
      pointer: '/unseenClasses',
      message: `seen and unseen classes together are at most ${MAX_CLASSES}`,
    });
  }
  return problems;
}
