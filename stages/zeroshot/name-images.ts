/**
 * Closed-world accuracy of a contrastive model. An image and the description of each label become unit vectors x and t; the
 * answer is argmax x . t over the offered labels, and again over all labels of the test set. The model's temperature and bias
 * do not change an argmax and are left out.
 *
 * What was chosen is kept in the state folder batch by batch; an evaluation that was cut off repeats at most one batch.
 *
 * @see Radford et al. 2021, arXiv:2103.00020, section 3.1
 */
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { readEvalData } from '../../src/artifacts/eval-data.ts';
import { type SplitPrediction, writePredictions } from '../../src/artifacts/predictions.ts';
import { RowLog } from '../../src/artifacts/row-log.ts';
import type { EvalRow, EvaluationInfo, MetricsFile } from '../../src/artifacts/types.ts';
import { chooseTestRows } from '../../src/datasets/choose-test-rows.ts';
import { openPictureEmbedder, type PictureEmbedder } from '../../src/engine/embedding/picture-embedder.ts';
import { openTextEmbedder, type TextEmbedder } from '../../src/engine/embedding/text-embedder.ts';
import { finiteVector } from '../../src/engine/embedding/transformers-model.ts';
import { loadImage } from '../../src/engine/image/load-image.ts';
import { Fr1Error } from '../../src/errors/fr1-error.ts';
import { accuracy, accuracyMetrics, percentText } from '../../src/methods/accuracies.ts';
import type { Estimate } from '../../src/methods/statistics.ts';
import type { ReportTable, StageContext, StageResult } from '../../src/run/stage-api.ts';
import type { ZeroshotOptions } from './options.ts';

const TEXTS_AT_ONCE = 64;

interface TestItem {
  readonly split: string;
  readonly row: EvalRow;
  readonly imageFile: string;
}

interface PlannedItems {
  readonly items: readonly TestItem[];
  readonly splits: EvaluationInfo['splits'];
  /** Every label that occurs in a test set, offered or right, sorted. */
  readonly labelsOf: ReadonlyMap<string, readonly string[]>;
}

/** The nearest label to one image. */
interface Choice {
  /** Among the offered ones. */
  readonly offered: string;
  /** Among all of the test set. */
  readonly overall: string;
}

/**
 * Fills the outputs `predictions` and `metrics`.
 *
 * @throws DATA_UNREADABLE, DATA_ROW_INVALID for faulty test data
 * @throws IMAGE_UNREADABLE naming the row of a broken image
 * @throws CHECKPOINT_UNREADABLE when the model cannot be loaded
 * @throws SCORES_NOT_FINITE when its vectors are not numbers
 */
export async function nameImages(context: StageContext<ZeroshotOptions>): Promise<StageResult> {
  const { items, splits, labelsOf } = await planItems(context.options);
  const { threads } = context.lease.device;
  await using texts = await openTextEmbedder(context.options, threads);
  await using pictures = await openPictureEmbedder(context.options, threads);
  const labels = await labelVectors(context, new Set([...labelsOf.values()].flat()), texts);
  const choices = await chooseLabels(context, items, labelsOf, labels, pictures);

  const rows = items.map((item, index) => prediction(item, choices[index]!));
  const metrics = { ...(await accuracyMetrics(rows)), ...(await overallMetrics(items, choices, splits)) };
  await writePredictions(context.outputs['predictions']!, { info: evaluationInfo(context, splits), rows });
  const file: MetricsFile = { version: 1, metrics };
  await writeFile(path.join(context.outputs['metrics']!, 'metrics.json'), `${JSON.stringify(file, null, 2)}\n`);
  return { metrics, tables: [accuracyTable(metrics, labelsOf)] };
}

async function planItems(options: ZeroshotOptions): Promise<PlannedItems> {
  const items: TestItem[] = [];
  const splits: EvaluationInfo['splits'][number][] = [];
  const labelsOf = new Map<string, readonly string[]>();
  for (const [split, artifact] of Object.entries(options.data)) {
    const { info, rows } = await readEvalData(artifact.path);
    const chosen = chooseTestRows(rows, split, options);
    if (chosen.length === 0) throw new Fr1Error('DATA_UNREADABLE', `the test set "${split}" has no rows`);
    splits.push({ name: split, data: artifact.digest, superCategory: info.superCategory, items: chosen.length });
    labelsOf.set(split, [...new Set(rows.flatMap((row) => row.options))].sort());
    for (const row of chosen) items.push({ split, row, imageFile: path.join(artifact.path, row.image) });
  }
  return { items, splits, labelsOf };
}

async function labelVectors(
  { options, signal, progress }: StageContext<ZeroshotOptions>,
  labels: ReadonlySet<string>,
  embedder: TextEmbedder,
): Promise<Map<string, Float32Array>> {
  const vectors = new Map<string, Float32Array>();
  const all = [...labels];
  for (let at = 0; at < all.length; at += TEXTS_AT_ONCE) {
    signal.throwIfAborted();
    const part = all.slice(at, at + TEXTS_AT_ONCE);
    const embedded = await embedder.embed(part.map((label) => describe(label, options.template)));
    for (const [i, label] of part.entries()) vectors.set(label, finiteVector(embedded[i]!, embedder.name));
    progress({ done: vectors.size, total: all.length, unit: 'labels' });
  }
  return vectors;
}

function describe(label: string, template: string): string {
  return template.replaceAll('{}', () => label.replaceAll('_', ' '));
}

async function chooseLabels(
  { options, state, signal, log, progress }: StageContext<ZeroshotOptions>,
  items: readonly TestItem[],
  labelsOf: PlannedItems['labelsOf'],
  vectors: ReadonlyMap<string, Float32Array>,
  embedder: PictureEmbedder,
): Promise<readonly Choice[]> {
  const { batchSize } = options;
  const keys = items.map(({ split, row }) => `${split}/${row.id}`);
  const done = await RowLog.open(state, keys, batchSize, choiceOf);
  if (done.rows.length > 0) log(`continuing after ${done.rows.length} of ${items.length} images`);
  while (done.rows.length < items.length) {
    signal.throwIfAborted();
    const batch = items.slice(done.rows.length, done.rows.length + batchSize);
    const images = await Promise.all(batch.map(loadItemImage));
    const embedded = await embedder.embed(images);
    await done.append(
      batch.map(({ split, row }, index) => {
        const image = finiteVector(embedded[index]!, embedder.name);
        const offered = nearest(image, [...row.options].sort(), vectors);
        return { offered, overall: nearest(image, labelsOf.get(split)!, vectors) };
      }),
    );
    progress({ done: done.rows.length, total: items.length, unit: 'images' });
  }
  return done.rows;
}

function choiceOf({ offered, overall }: Readonly<Record<string, unknown>>): Choice | null {
  return typeof offered === 'string' && typeof overall === 'string' ? { offered, overall } : null;
}

async function loadItemImage({ split, row, imageFile }: TestItem) {
  return loadImage(imageFile, `test set "${split}", row "${row.id}" (${imageFile})`);
}

/** Of labels equally near, the first one in the given order, which must not tell the right one. */
function nearest(image: Float32Array, labels: readonly string[], vectors: ReadonlyMap<string, Float32Array>): string {
  let [best, bestCosine] = [labels[0]!, Number.NEGATIVE_INFINITY];
  for (const label of labels) {
    const cosine = vectors.get(label)!.reduce((sum, value, i) => sum + value * image[i]!, 0);
    if (cosine > bestCosine) [best, bestCosine] = [label, cosine];
  }
  return best;
}

function prediction({ split, row }: TestItem, { offered }: Choice): SplitPrediction {
  const correct = offered === row.label;
  return {
    id: row.id,
    split,
    mode: 'closed',
    label: row.label,
    options: row.options,
    output: offered,
    answer: offered,
    correct,
    strictlyCorrect: correct,
    isOption: true,
  };
}

/** `<split>_all_labels` and their unweighted mean `all_labels`. */
async function overallMetrics(
  items: readonly TestItem[],
  choices: readonly Choice[],
  splits: EvaluationInfo['splits'],
): Promise<Record<string, Estimate>> {
  const strata = splits.map(({ name }) =>
    items.flatMap(({ split, row }, index) => (split === name ? [choices[index]!.overall === row.label] : [])),
  );
  const metrics: Record<string, Estimate> = { all_labels: await accuracy(strata) };
  for (const [index, { name }] of splits.entries()) metrics[`${name}_all_labels`] = await accuracy([strata[index]!]);
  return metrics;
}

function evaluationInfo(
  { options, seed }: StageContext<ZeroshotOptions>,
  splits: EvaluationInfo['splits'],
): EvaluationInfo {
  return {
    version: 1,
    rules: {
      method: 'contrastive',
      prompts: { closed: options.template },
      optionOrder: 'none',
      optionSeed: options.optionSeed,
      standardFrom: 'none',
      openFallback: 'none',
      emptyCarLabel: 'none',
      maxNewTokens: 0,
      temperature: null,
      topP: null,
      topK: null,
      repetitionPenalty: null,
    },
    splits,
    model: options.model?.digest ?? `${options.hub}@${options.revision}`,
    seed,
  };
}

function accuracyTable(metrics: Readonly<Record<string, Estimate>>, labelsOf: PlannedItems['labelsOf']): ReportTable {
  const rows = [...labelsOf].map(([split, labels]) => [
    split,
    percentText(metrics[`${split}_closed`]!),
    percentText(metrics[`${split}_all_labels`]!),
    `${labels.length}`,
  ]);
  if (rows.length > 1) rows.push(['mean', percentText(metrics['closed']!), percentText(metrics['all_labels']!), '']);
  return {
    title: 'Contrastive accuracy, % [95 % interval]',
    columns: ['test set', 'offered labels', 'all labels', 'labels'],
    rows,
  };
}
