/** Makes anchor, positive and negative out of labelled images: one triplet per image. */
import { linkImages, readImageData, writeDataset } from '../../src/artifacts/rows.ts';
import type { ImageRow, TripletRow } from '../../src/artifacts/types.ts';
import { RandomStream } from '../../src/engine/random.ts';
import { Fr1Error } from '../../src/errors/fr1-error.ts';
import { loadStageSchema } from '../../src/run/load-schema.ts';
import { defineStage } from '../../src/run/stage-api.ts';
import type { TripletsOptions } from './options.ts';

/** Wrong options of a question that offers some. */
const WRONG_OPTIONS = 3;

export const tripletsStage = defineStage<TripletsOptions>({
  kind: 'triplets',
  summary: 'Gives every image a positive of its own class and a negative of another.',
  version: 2,
  schema: loadStageSchema(import.meta.url),
  outputs: { data: { type: 'triplet-data', description: 'one triplet per image' } },
  metrics: ['triplets', 'classes'],
  resources: () => ({ device: false }),
  async run(context) {
    const { data, negative, closedShare } = context.options;
    const { info, rows } = await readImageData(data.path);
    const byClass = groupByClass(rows);
    checkEnough(byClass);
    if (closedShare > 0 && byClass.size <= WRONG_OPTIONS) {
      throw new Fr1Error(
        'DATA_INSUFFICIENT',
        `the data has ${byClass.size} classes; a question with options (closedShare) needs ${WRONG_OPTIONS + 1}`,
      );
    }
    const negativeClasses = new Map(
      [...byClass.keys()].map((label) => [
        label,
        negative === 'similar' ? mostSimilar(label, byClass) : [...byClass.keys()].filter((other) => other !== label),
      ]),
    );
    const triplets = rows.map((row): TripletRow => {
      const stream = new RandomStream('triplets', context.seed, row.id);
      const positive = stream.choice(byClass.get(row.label)!.filter((other) => other.id !== row.id));
      const negativeLabel = stream.choice(negativeClasses.get(row.label)!);
      return {
        id: row.id,
        anchor: row.image,
        positive: positive.image,
        negative: stream.choice(byClass.get(negativeLabel)!).image,
        question: row.question,
        label: row.label,
        negativeLabel,
        ...(stream.uniform() < closedShare && { options: offeredOptions(row.label, byClass, stream) }),
      };
    });
    const output = context.outputs['data']!;
    await linkImages(
      data.path,
      output,
      triplets.flatMap((row) => [row.anchor, row.positive, row.negative]),
      context.signal,
    );
    await writeDataset(output, info, triplets);
    context.progress({ done: triplets.length, total: triplets.length, unit: 'triplets' });
    return { metrics: { triplets: { value: triplets.length }, classes: { value: byClass.size } } };
  },
});

type ImagesByClass = ReadonlyMap<string, readonly ImageRow[]>;

function groupByClass(rows: readonly ImageRow[]): ImagesByClass {
  const byClass = new Map<string, ImageRow[]>();
  for (const row of rows) {
    const group = byClass.get(row.label);
    if (group === undefined) byClass.set(row.label, [row]);
    else group.push(row);
  }
  return byClass;
}

function checkEnough(byClass: ImagesByClass): void {
  if (byClass.size < 2) {
    throw new Fr1Error('DATA_INSUFFICIENT', `the data has ${byClass.size} classes; a negative needs another class`);
  }
  for (const [label, rows] of byClass) {
    if (rows.length < 2) {
      throw new Fr1Error('DATA_INSUFFICIENT', `class "${label}" has a single image; a positive needs another one`, {
        hint: 'give every class at least two images',
      });
    }
  }
}

/** The other classes at the smallest distance; several where they tie. */
export function mostSimilar(label: string, byClass: ImagesByClass): string[] {
  const others = [...byClass.keys()].filter((other) => other !== label);
  const distances = others.map((other) => classDistance(byClass.get(label)![0]!, byClass.get(other)![0]!));
  const least = Math.min(...distances);
  return others.filter((_, i) => distances[i] === least);
}

/** The label among the nearest other classes, in random order; ties are broken at random. */
function offeredOptions(label: string, byClass: ImagesByClass, stream: RandomStream): string[] {
  const own = byClass.get(label)![0]!;
  const others = stream
    .shuffled([...byClass.keys()].filter((other) => other !== label))
    .map((other) => ({ other, distance: classDistance(own, byClass.get(other)![0]!) }))
    .sort((a, b) => a.distance - b.distance)
    .slice(0, WRONG_OPTIONS);
  return stream.shuffled([label, ...others.map(({ other }) => other)]);
}

/** Number of attributes that differ; where a class has none, minus the number of words that the two names share. */
function classDistance(a: ImageRow, b: ImageRow): number {
  const [first, second] = [a.attributes, b.attributes];
  if (first !== undefined && second !== undefined) {
    const keys = new Set([...Object.keys(first), ...Object.keys(second)]);
    return [...keys].filter((key) => first[key] !== second[key]).length;
  }
  const words = (text: string) => new Set(text.toLowerCase().split(/[\s_-]+/));
  const theirs = words(b.label);
  return -[...words(a.label)].filter((word) => theirs.has(word)).length;
}
