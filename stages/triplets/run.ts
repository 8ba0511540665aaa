/** Draws a positive and a negative for every image and writes the triplets. */
import { linkImages, readImageData, writeDataset } from '../../src/artifacts/rows.ts';
import type { ImageRow, TripletRow } from '../../src/artifacts/types.ts';
import { WRONG_OPTIONS } from '../../src/datasets/hard-options.ts';
import { RandomStream } from '../../src/engine/random.ts';
import { Fr1Error } from '../../src/errors/fr1-error.ts';
import type { StageContext, StageResult } from '../../src/run/stage-api.ts';
import { type ImagesByClass, negativeClasses, offeredOptions } from './negative-classes.ts';
import type { TripletsOptions } from './options.ts';
import { withAnchorSizes } from './resize.ts';

export async function runTriplets(context: StageContext<TripletsOptions>): Promise<StageResult> {
  const { data, sizes, closedShare } = context.options;
  const { info, rows } = await readImageData(data.path);
  const byClass = groupByClass(rows);
  checkEnough(byClass, closedShare);
  const negatives = await negativeClasses(context, info, byClass);
  const triplets = rows.map((row): TripletRow => {
    const stream = new RandomStream('triplets', context.seed, row.id);
    const positive = stream.choice(byClass.get(row.label)!.filter((other) => other.id !== row.id));
    const negativeLabel = stream.choice(negatives.get(row.label)!);
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
  const images = triplets.flatMap((row) => [row.anchor, row.positive, row.negative]);
  const rowsOut =
    sizes === 'anchor'
      ? await withAnchorSizes(triplets, data.path, output, context)
      : await linkImages(data.path, output, images, context.signal).then(() => triplets);
  await writeDataset(output, info, rowsOut);
  context.progress({ done: triplets.length, total: triplets.length, unit: 'triplets' });
  return { metrics: { triplets: { value: triplets.length }, classes: { value: byClass.size } } };
}

function groupByClass(rows: readonly ImageRow[]): ImagesByClass {
  const byClass = new Map<string, ImageRow[]>();
  for (const row of rows) {
    const group = byClass.get(row.label);
    if (group === undefined) byClass.set(row.label, [row]);
    else group.push(row);
  }
  return byClass;
}

function checkEnough(byClass: ImagesByClass, closedShare: number): void {
  if (closedShare > 0 && byClass.size <= WRONG_OPTIONS) {
    throw new Fr1Error(
      'DATA_INSUFFICIENT',
      `the data has ${byClass.size} classes; a question with options (closedShare) needs ${WRONG_OPTIONS + 1}`,
    );
  }
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
