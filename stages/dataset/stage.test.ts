import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { readEvalData } from '../../src/artifacts/eval-data.ts';
import { readImageData } from '../../src/artifacts/rows.ts';
import type { EvalRow, ImageRow } from '../../src/artifacts/types.ts';
import { RandomStream } from '../../src/engine/random.ts';
import { distractors } from '../../src/worlds/procedural-birds/options.ts';
import {
  attributeWords,
  differingAttribute,
  distance,
  speciesNamed,
} from '../../src/worlds/procedural-birds/species.ts';
import { BASE_SPECIES } from '../../src/worlds/procedural-birds/split.ts';
import { fakeContext } from '../testing/fake-context.ts';
import type { DatasetOptions } from './options.ts';
import { datasetStage } from './stage.ts';

const SMALL: Partial<DatasetOptions> = {
  source: 'procedural-birds',
  seenClasses: 8,
  unseenClasses: 4,
  sftShots: 2,
  rlShots: 3,
  testImages: 20,
};

interface Made {
  readonly sft: readonly ImageRow[];
  readonly rl: readonly ImageRow[];
  readonly seen: readonly EvalRow[];
  readonly unseen: readonly EvalRow[];
  readonly trainClasses: readonly string[];
  /** Hashes of the image files by output. */
  readonly hashes: Readonly<Record<string, readonly string[]>>;
  /** Hash over all rows and images. */
  readonly digest: string;
  readonly metrics: Readonly<Record<string, number>>;
  readonly lastProgress: unknown;
}

async function make(changes: Partial<DatasetOptions> = {}, seed = 1): Promise<Made> {
  using context = fakeContext(datasetStage, { ...SMALL, ...changes }, { seed });
  const { metrics } = await datasetStage.run(context);
  const { sft, rl, seen, unseen } = context.outputs as Record<string, string>;
  const rows = {
    sft: (await readImageData(sft!)).rows,
    rl: (await readImageData(rl!)).rows,
    seen: (await readEvalData(seen!)).rows,
    unseen: (await readEvalData(unseen!)).rows,
  };
  const whole = createHash('sha256');
  const hashes: Record<string, string[]> = {};
  for (const [output, list] of Object.entries(rows)) {
    whole.update(JSON.stringify(list));
    hashes[output] = list.map(({ image }) => {
      const bytes = readFileSync(path.join(context.outputs[output]!, image));
      whole.update(bytes);
      return createHash('sha256').update(bytes).digest('hex');
    });
  }
  return {
    ...rows,
    trainClasses: (await readImageData(sft!)).info.classes,
    hashes,
    digest: whole.digest('hex'),
    metrics: Object.fromEntries(Object.entries(metrics!).map(([name, { value }]) => [name, value])),
    lastProgress: context.progressed.at(-1),
  };
}

describe('dataset', () => {
  let made: Made;
  beforeAll(async () => {
    made = await make();
  });

  it('makes as many images and items as asked for', () => {
    expect(made.metrics).toEqual({
      seenClasses: 8,
      unseenClasses: 4,
      sftImages: 16,
      rlImages: 24,
      seenTestImages: 20,
      unseenTestImages: 20,
      leftOut: 0,
    });
    expect([made.sft.length, made.rl.length, made.seen.length, made.unseen.length]).toEqual([16, 24, 20, 20]);
    expect(made.lastProgress).toEqual({ done: 80, total: 80, unit: 'images' });
  });

  it('shows no image twice, neither within nor across training and test', () => {
    expect(new Set(Object.values(made.hashes).flat()).size).toBe(80);
  });

  it('trains on seen classes only, and on no species of the base', () => {
    const labels = (rows: readonly { label: string }[]) => new Set(rows.map((row) => row.label));
    expect(labels(made.sft)).toEqual(new Set(made.trainClasses));
    expect(labels(made.rl)).toEqual(new Set(made.trainClasses));
    expect(labels(made.seen)).toEqual(new Set(made.trainClasses));
    expect([...labels(made.unseen)].filter((label) => made.trainClasses.includes(label))).toEqual([]);
    const all = [...labels(made.seen), ...labels(made.unseen)].map((label) => speciesNamed(label)!);
    expect(all.filter((species) => BASE_SPECIES.includes(species))).toEqual([]);
  });

  it('writes true attributes', () => {
    for (const row of [...made.sft, ...made.rl]) {
      expect(row.attributes).toEqual(attributeWords(speciesNamed(row.label)!));
    }
  });

  it('lists the right option first, then three that differ from all others in one and the same attribute', () => {
    for (const row of [...made.seen, ...made.unseen]) {
      expect(row.options[0]).toBe(row.label);
      const species = row.options.map((name) => speciesNamed(name)!);
      const pairs = species.flatMap((a) => species.filter((b) => b !== a).map((b) => [a, b] as const));
      expect(pairs.length).toBe(12);
      expect(pairs.every(([a, b]) => distance(a, b) === 1)).toBe(true);
      expect(new Set(pairs.map(([a, b]) => differingAttribute(a, b))).size).toBe(1);
    }
  });

  it('gives the same bytes for the same seed and others for another seed', async () => {
    expect((await make()).digest).toBe(made.digest);
    expect((await make({}, 2)).digest).not.toBe(made.digest);
  });

  it('prefers its own seed to that of the stage', async () => {
    expect((await make({ seed: 1 }, 99)).digest).toBe(made.digest);
  });

  it('keeps the images of one use when the shots of another change', async () => {
    const other = await make({ sftShots: 3 });
    expect(other.hashes['rl']).toEqual(made.hashes['rl']);
    expect(other.hashes['seen']).toEqual(made.hashes['seen']);
    expect(other.hashes['sft']).toEqual(expect.arrayContaining([...made.hashes['sft']!]));
  });

  it('stops when it is aborted', async () => {
    const controller = new AbortController();
    controller.abort(new Error('stopped'));
    using context = fakeContext(datasetStage, SMALL, { signal: controller.signal });
    await expect(datasetStage.run(context)).rejects.toThrow('stopped');
  });

  it('refuses more classes than there are', () => {
    const problems = (options: Partial<DatasetOptions>) =>
      datasetStage.validate!({ ...SMALL, ...options } as DatasetOptions).map((problem) => problem.pointer);
    expect(problems({ seenClasses: 150, unseenClasses: 150 })).toEqual([]);
    expect(problems({ seenClasses: 151, unseenClasses: 150 })).toEqual(['/unseenClasses']);
  });
});

describe('distractors()', () => {
  it('takes the nearest classes where no three differ in the same attribute', () => {
    const [right, near, nearer, far, farthest] = [
      'Ruby Honey Ladder Kite',
      'Ruby Honey Stone Wren',
      'Jade Honey Ladder Kite',
      'Coal Night Plum Kite',
      'Coal Night Plum Wren',
    ].map((name) => speciesNamed(name)!) as [number, number, number, number, number];
    const chosen = distractors(right, [farthest, far, right, nearer, near], new RandomStream(1));
    expect(chosen).toEqual([nearer, near, far]);
  });
});
