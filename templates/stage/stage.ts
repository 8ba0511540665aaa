/** `my-stage`: keeps a few images of each class, chosen by the seed. */
import { createHash } from 'node:crypto';
import { defineStage, inputProblem, linkImages, readImageData, writeDataset } from 'fr1/plugin';

export default defineStage({
  kind: 'my-stage',
  summary: 'Keeps a few images of each class, chosen by the seed.',
  // Raise it when the same options and inputs would give another result.
  version: 1,
  schema: {
    type: 'object',
    additionalProperties: false,
    required: ['data'],
    properties: {
      data: { artifact: ['image-data'], description: 'Labelled images to choose from.' },
      perClass: { type: 'integer', minimum: 1, default: 2, description: 'Images to keep of each class.' },
    },
  },
  outputs: { data: { type: 'image-data', description: 'The images that were kept.' } },
  metrics: ['images'],

  async run({ options, outputs, seed, signal, log, progress }) {
    const { info, rows } = await readImageData(options.data.path);
    const kept: (typeof rows)[number][] = [];
    for (const [i, label] of info.classes.entries()) {
      signal.throwIfAborted();
      const ofClass = rows.filter((row) => row.label === label);
      if (ofClass.length < options.perClass) {
        throw inputProblem(`class "${label}" has ${ofClass.length} images, fewer than ${options.perClass}`, {
          hint: 'lower `perClass`, or give data with more images of each class',
        });
      }
      kept.push(...shuffled(ofClass, seed).slice(0, options.perClass));
      progress({ done: i + 1, total: info.classes.length, unit: 'classes' });
    }
    await linkImages(
      options.data.path,
      outputs.data,
      kept.map((row) => row.image),
      signal,
    );
    await writeDataset(outputs.data, info, kept);
    log(`kept ${kept.length} of ${rows.length} images`);
    return { metrics: { images: { value: kept.length } } };
  },
});

/** The same order for the same seed, whatever the order of the rows. */
function shuffled<Row extends { readonly id: string }>(rows: readonly Row[], seed: number): Row[] {
  const key = (row: Row) => createHash('sha256').update(`${seed}/${row.id}`).digest('hex');
  return rows
    .map((row) => ({ row, key: key(row) }))
    .sort((a, b) => (a.key < b.key ? -1 : 1))
    .map(({ row }) => row);
}
