/**
 * Compares this engine with values that another implementation recorded for the same weights and batch
 * (scripts/dump_expected.py writes such files). Everything is compared that a file holds; a tensor that is neither an input nor
 * something to compare is refused, so that a wrong name never passes for agreement.
 */

import { Fr1Error } from '../../../errors/fr1-error.ts';
import type { ModelFolder } from '../../adapters/model-folder.ts';
import { PLAIN_SAMPLING } from '../../generate/plain-sampling.ts';
import type { ImagePatches } from '../../generate/types.ts';
import { WEIGHTED_NLL } from '../../loss/weighted-nll.ts';
import { Program, type SessionSource } from '../../program.ts';
import { float32, type HostTensor, sizeOf } from '../../tensor.ts';
import type { Checkpoint } from '../../weights/checkpoint.ts';
import { ModelWeights } from '../../weights/model-weights.ts';
import { openSafetensors, type SafetensorsFile } from '../../weights/safetensors.ts';
import type { Batch } from './batch.ts';
import type { Qwen25VLConfig } from './config.ts';
import { defaultExecution, type Execution } from './execution.ts';
import { frozenWeights } from './frozen-weights.ts';
import { createGenerator } from './generator.ts';
import { LayeredModel } from './layered.ts';
import { adaptedWeights, wholeWeights } from './open-training-model.ts';
import { canonicalName } from './parameters.ts';
import { requireMemory } from './require-memory.ts';
import { type SequenceBatch, type Sequences, sequenceBatch, type Target } from './sequence-batch.ts';
import { logProbGraph, TrainingModel } from './training-model.ts';
import { type ImageGrid, visionLayout } from './vision-layout.ts';

/** How far values may differ; floats are compared in float32. */
export const PARITY_TOLERANCE = {
  /** Number of positions that differ. */
  position_ids: 0,
  rope_deltas: 0,
  /** Largest absolute difference. */
  image_embeds: 2e-4,
  logits: 2e-4,
  /** |d| / |loss| */
  loss: 1e-5,
  /** ||d|| / ||g|| of one parameter. */
  gradient: 2e-4,
  /** Number of tokens that differ. */
  generated: 0,
} as const;

export interface ParityRow {
  /** A tensor of the file, or the gradient of a parameter. */
  readonly name: string;
  readonly measure: 'places that differ' | 'largest difference' | 'relative difference' | 'relative norm' | 'tokens';
  readonly error: number;
  readonly tolerance: number;
  /** Scale of the expected values, for reading the error. */
  readonly scale: number;
  readonly within: boolean;
}

export interface ParityReport {
  /** One per compared tensor, in the order of the computation. */
  readonly rows: readonly ParityRow[];
  /** Parameters of which the file of gradients has none, although they have one here. */
  readonly notCompared: readonly string[];
}

export interface ParityOptions {
  readonly expected: string;
  /** Holds the batch where `expected` does not. */
  readonly inputs?: string | undefined;
  readonly gradients?: string | undefined;
  readonly generated?: string | undefined;
  /** @default by the size of the model, as in training */
  readonly execution?: Execution | undefined;
}

/**
 * Without gradients to compare, weights stay as they are for generation: those of large models in their files.
 *
 * @throws PARITY_FILE_INVALID when a file lacks a tensor, has one of an unknown name or of another shape than the batch asks for
 * @throws MEMORY_SHORT when the gradients of all weights would not fit
 */
export async function compareWithExpected(
  source: SessionSource,
  { base, adapter }: ModelFolder,
  options: ParityOptions,
  signal?: AbortSignal,
): Promise<ParityReport> {
  const { config } = base;
  const { gradients, generated, execution = defaultExecution(config) } = options;
  const expected = openSafetensors(options.expected);
  const inputs = options.inputs ? openSafetensors(options.inputs) : expected;
  const { sequences, labelled } = readBatch(inputs, config);
  for (const file of [inputs, expected]) requireNames(file, [...INPUTS, ...VALUES]);
  const hasValues = VALUES.some((name) => expected.has(name));
  if (!hasValues && gradients === undefined && generated === undefined)
    throw invalid(expected, `it holds nothing to compare with: ${VALUES.join(', ')}`);
  if (expected.has('image_embeds') && sequences.images.length === 0)
    throw invalid(expected, 'it holds image_embeds, and the batch has no image');
  const answers = generated === undefined ? undefined : openSafetensors(generated);
  if (answers) requireNames(answers, ['generated']);
  const hasLoss = expected.has('loss') || gradients !== undefined;
  if (hasLoss && labelled.length === 0) throw invalid(expected, 'its labels ask for no token, so there is no loss');
  const names = base.parameters.map(({ name }) => name);
  const weights = adapter
    ? adaptedWeights(base, adapter, execution, source.provider)
    : gradients !== undefined
      ? trainedWeights(base)
      : ModelWeights.frozen(frozenWeights(base, names, execution, source.provider));
  const stored = gradients === undefined ? null : storedGradients(openSafetensors(gradients), weights);
  const model = new TrainingModel(source, config, weights, execution);
  try {
    const rows = await compareForward(source, model, expected, sequences, signal);
    const loss = hasLoss ? await compareLoss(model, expected, stored, sequences, labelled, signal) : EMPTY;
    rows.push(...loss.rows);
    if (answers) rows.push(await compareGenerated(source, model, answers, sequences, signal));
    return { rows, notCompared: loss.notCompared };
  } finally {
    await model.release();
  }
}

const EMPTY: ParityReport = { rows: [], notCompared: [] };

/** A batch; the token types say what the image tokens say already. */
const INPUTS = [
  'input_ids',
  'attention_mask',
  'labels',
  'pixel_values',
  'image_grid_thw',
  'mm_token_type_ids',
] as const;
const VALUES = ['position_ids', 'rope_deltas', 'image_embeds', 'logits', 'loss'] as const;

function requireNames(file: SafetensorsFile, known: readonly string[]): void {
  const unknown = file.names.filter((name) => !known.includes(name));
  if (unknown.length > 0) throw invalid(file, `it holds ${listed(unknown)}; known are ${known.join(', ')}`);
}

/** All weights, to be trained. @throws MEMORY_SHORT before they are read */
function trainedWeights(base: Checkpoint): ModelWeights {
  const bytes = base.parameters.reduce((sum, { shape }) => sum + 2 * 4 * sizeOf(shape), 0);
  requireMemory(
    'the gradients of all weights',
    {
      process: 0,
      frozenWeights: 0,
      otherWeights: 0,
      trainedWeights: bytes,
      images: 0,
      batch: 0,
      activations: 0,
      cache: 0,
      total: bytes,
    },
    { trainedWeights: 'leave --grads out, or compare those of an adapter (--adapter)' },
  );
  return wholeWeights(base);
}

function readBatch(
  file: SafetensorsFile,
  config: Qwen25VLConfig,
): { readonly sequences: Sequences; readonly labelled: readonly Target[] } {
  const shape = tensorShape(file, 'input_ids');
  if (shape.length !== 2) throw invalid(file, `input_ids has shape [${shape.join(', ')}], expected [rows, tokens]`);
  const [batch, tokens] = shape as [number, number];
  const rowsOf = (name: string): number[][] => {
    const flat = numbersOf(file, name);
    if (flat.length !== batch * tokens) throw invalid(file, `${name} does not have the shape of input_ids`);
    return Array.from({ length: batch }, (_, b) => flat.slice(b * tokens, (b + 1) * tokens));
  };
  const ids = rowsOf('input_ids');
  const mask = file.has('attention_mask') ? rowsOf('attention_mask') : ids.map((row) => row.map(() => 1));
  const wrong = ids.flat().find((id) => id < 0 || id >= config.text.vocabSize);
  if (wrong !== undefined)
    throw invalid(file, `input_ids has token ${wrong}, the model knows ${config.text.vocabSize}`);
  const labels = file.has('labels') ? rowsOf('labels') : [];
  const labelled = labels.flatMap((row, b) =>
    row.flatMap((id, t) => (t > 0 && id >= 0 ? [{ row: b, after: t - 1, id }] : [])),
  );
  return { sequences: { ids, mask, images: readImages(file, config) }, labelled };
}

function readImages(file: SafetensorsFile, config: Qwen25VLConfig): ImagePatches[] {
  if (!file.has('image_grid_thw')) {
    if (file.has('pixel_values')) throw invalid(file, 'it has pixel_values without image_grid_thw');
    return [];
  }
  const { inChannels, temporalPatchSize, patchSize } = config.vision;
  const width = inChannels * temporalPatchSize * patchSize ** 2;
  const grids = numbersOf(file, 'image_grid_thw');
  const pixels = file.readFloat32('pixel_values').data;
  const images: ImagePatches[] = [];
  let patch = 0;
  for (let i = 0; i < grids.length; i += 3) {
    const grid: ImageGrid = [grids[i]!, grids[i + 1]!, grids[i + 2]!];
    const count = grid[0] * grid[1] * grid[2];
    images.push({ grid, pixels: pixels.subarray(patch * width, (patch + count) * width) });
    patch += count;
  }
  if (patch * width !== pixels.length) {
    throw invalid(file, `pixel_values has ${pixels.length / width} patches, image_grid_thw asks for ${patch}`);
  }
  return images;
}

/** Positions, image embeddings, and the logits of every real token. */
async function compareForward(
  source: SessionSource,
  model: TrainingModel,
  file: SafetensorsFile,
  sequences: Sequences,
  signal: AbortSignal | undefined,
): Promise<ParityRow[]> {
  const { config } = model;
  const { ids, mask, images } = sequences;
  const everywhere = ids.flatMap((row, b) =>
    Array.from(row).flatMap((_, t) => (mask[b]![t] === 0 ? [] : [{ row: b, after: t, id: 0 }])),
  );
  const laidOut = sequenceBatch(config, sequences, everywhere);
  const rows = comparePositions(file, laidOut, sequences);
  const { batch } = laidOut;
  if (!file.has('logits') && !file.has('image_embeds')) return rows;
  const got = await forwardValues(source, model, batch, signal);
  if (got.imageEmbeddings && file.has('image_embeds')) {
    const { inverseIndex } = visionLayout(
      images.map(({ grid }) => grid),
      config,
    );
    rows.push(compareRows(file, 'image_embeds', got.imageEmbeddings, inverseIndex));
  }
  if (file.has('logits')) {
    const vocabulary = config.text.vocabSize;
    checkSize(file, 'logits', ids.length * batch.shape[1] * vocabulary);
    const want = file.readFloat32('logits').data;
    const values = got.logits.data as Float32Array;
    const difference = new LargestDifference();
    everywhere.forEach(({ row, after }, n) => {
      const at = (row * batch.shape[1] + after) * vocabulary;
      for (let v = 0; v < vocabulary; v++) difference.add(values[n * vocabulary + v]!, want[at + v]!);
    });
    rows.push(difference.row('logits', PARITY_TOLERANCE.logits));
  }
  return rows;
}

/** Logits of the labelled rows [N, V], and image embeddings in window order [M, C]. */
async function forwardValues(
  source: SessionSource,
  { config, weights, execution }: TrainingModel,
  { feeds, visionKind }: Batch,
  signal: AbortSignal | undefined,
): Promise<{ readonly logits: HostTensor; readonly imageEmbeddings: HostTensor | null }> {
  if (execution === 'layered') {
    const layered = new LayeredModel(source, config, weights);
    try {
      return await layered.forward(feeds, visionKind, { signal });
    } finally {
      await layered.release();
    }
  }
  const { graph, logits, imageEmbeddings } = logProbGraph(config, visionKind, weights);
  const outputs = { logits, ...(imageEmbeddings && { image_embeds: imageEmbeddings }) };
  const key = `parity:${visionKind}:${JSON.stringify(config)}:${weights.layoutKey}`;
  const program = await Program.compile(source, graph, outputs, { key });
  try {
    const all = program.feeds.map(({ name }) => [name, feeds[name] ?? weights.tensor(name)] as const);
    const got = await program.run(Object.fromEntries(all), { signal });
    return { logits: got['logits']!, imageEmbeddings: got['image_embeds'] ?? null };
  } finally {
    await program.release();
  }
}

function comparePositions(file: SafetensorsFile, { positions }: SequenceBatch, { mask }: Sequences): ParityRow[] {
  const rows: ParityRow[] = [];
  const count = (name: 'position_ids' | 'rope_deltas', differing: number, scale: number) =>
    rows.push(row(name, 'places that differ', differing, PARITY_TOLERANCE[name], scale));
  if (file.has('position_ids')) {
    checkSize(file, 'position_ids', positions.positions.length);
    const want = numbersOf(file, 'position_ids');
    const real = mask.flatMap((each) => Array.from(each, Number));
    // What stands at padding is a matter of convention and is never read.
    const differing = want.filter((value, i) => real[i % real.length] !== 0 && value !== positions.positions[i]);
    count('position_ids', differing.length, Math.max(...want));
  }
  if (file.has('rope_deltas')) {
    checkSize(file, 'rope_deltas', positions.deltas.length);
    const want = numbersOf(file, 'rope_deltas');
    // transformers counts from the padded length, this engine from the real tokens.
    const differing = want.filter((value, b) => {
      const padding = Array.from(mask[b]!, Number).filter((each) => each === 0).length;
      return value + padding !== positions.deltas[b] && value !== positions.deltas[b];
    });
    count('rope_deltas', differing.length, Math.max(...want.map(Math.abs)));
  }
  return rows;
}

/** Rows of a matrix [R, C], where row i of the expected is row order[i] of ours. */
function compareRows(file: SafetensorsFile, name: 'image_embeds', got: HostTensor, order: Int32Array): ParityRow {
  checkSize(file, name, sizeOf(got.shape));
  const want = file.readFloat32(name).data;
  const width = got.shape[1]!;
  const difference = new LargestDifference();
  order.forEach((from, i) => {
    for (let c = 0; c < width; c++) difference.add(Number(got.data[from * width + c]), want[i * width + c]!);
  });
  return difference.row(name, PARITY_TOLERANCE[name]);
}

/** The loss, which is the mean over the labels, and its gradients. */
async function compareLoss(
  model: TrainingModel,
  file: SafetensorsFile,
  stored: StoredGradients | null,
  sequences: Sequences,
  labelled: readonly Target[],
  signal: AbortSignal | undefined,
): Promise<ParityReport> {
  const { batch } = sequenceBatch(model.config, sequences, labelled);
  const count = batch.targets.length;
  const lossRow = (got: number): ParityRow[] => {
    if (!file.has('loss')) return [];
    const want = numbersOf(file, 'loss')[0]!;
    const scale = Math.abs(want);
    return [row('loss', 'relative difference', Math.abs(got - want) / scale, PARITY_TOLERANCE.loss, scale)];
  };
  if (stored === null) {
    const logProbs = await model.logProbs(batch, signal);
    return { rows: lossRow(-logProbs.reduce((sum, each) => sum + each, 0) / count), notCompared: [] };
  }
  const gradients = model.store.buffer();
  const weight = float32([count], new Float32Array(count).fill(1 / count));
  const { loss } = await model.lossAndGradients(batch, WEIGHTED_NLL, { weight }, gradients, { signal });
  const compared = compareGradients(stored, model, gradients);
  return { ...compared, rows: [...lossRow(loss), ...compared.rows] };
}

interface StoredGradients {
  readonly file: SafetensorsFile;
  /** Names in the file by those of the trained parameters. */
  readonly names: ReadonlyMap<string, string>;
}

/** @throws PARITY_FILE_INVALID for a gradient of no parameter, or of another shape than its parameter */
function storedGradients(file: SafetensorsFile, { trained }: ModelWeights): StoredGradients {
  const shapes = new Map(trained.parameters.map(({ name, shape }) => [name, shape]));
  const names = new Map<string, string>();
  const unknown: string[] = [];
  for (const stored of file.names) {
    const name = trainedName(stored);
    const shape = shapes.get(name);
    if (shape === undefined || names.has(name)) unknown.push(stored);
    else checkSize(file, stored, sizeOf(shape));
    names.set(name, stored);
  }
  if (unknown.length > 0)
    throw invalid(
      file,
      `it holds ${listed(unknown)}, which are gradients of no trained parameter of the model, or second ones`,
    );
  if (names.size === 0) throw invalid(file, 'it holds no gradients');
  return { file, names };
}

/** What torch's backward did not reach is in no file; it agrees where the gradient here is 0 throughout. */
function compareGradients(
  { file, names }: StoredGradients,
  model: TrainingModel,
  gradients: Float32Array,
): ParityReport {
  const notCompared: string[] = [];
  const rows = model.store.parameters.flatMap(({ name }) => {
    const storedName = names.get(name);
    const got = model.store.view(gradients, name).data;
    if (storedName === undefined) {
      if (got.some((value) => value !== 0)) notCompared.push(name);
      return [];
    }
    const want = file.readFloat32(storedName).data;
    let difference = 0;
    let norm = 0;
    for (let i = 0; i < want.length; i++) {
      difference += (got[i]! - want[i]!) ** 2;
      norm += want[i]! ** 2;
    }
    // A gradient that is zero throughout has no scale of its own.
    const error = norm === 0 ? Math.sqrt(difference) : Math.sqrt(difference / norm);
    return [row(`gradient of ${name}`, 'relative norm', error, PARITY_TOLERANCE.gradient, Math.sqrt(norm))];
  });
  return { rows, notCompared };
}

/** `"a", "b", "c" and 12 more`. */
function listed(names: readonly string[]): string {
  const shown = names.slice(0, 3).map((name) => `"${name}"`);
  return names.length > shown.length ? `${shown.join(', ')} and ${names.length - shown.length} more` : shown.join(', ');
}

/** Name under which a weight is trained here; PEFT puts a prefix before it and the adapter's name inside. */
function trainedName(stored: string): string {
  return canonicalName(stored.replace(/^base_model\.model\./, '').replace('.default.weight', '.weight'));
}

async function compareGenerated(
  source: SessionSource,
  model: TrainingModel,
  file: SafetensorsFile,
  { ids, mask, images }: Sequences,
  signal: AbortSignal | undefined,
): Promise<ParityRow> {
  const [rows, count] = tensorShape(file, 'generated') as [number, number];
  if (rows !== ids.length) throw invalid(file, `generated has ${rows} rows, input_ids ${ids.length}`);
  const { config, weights, execution } = model;
  const want = numbersOf(file, 'generated');
  const merge = config.vision.spatialMergeSize ** 2;
  let image = 0;
  const requests = ids.map((row, b) => {
    const real = Array.from(row).filter((_, t) => mask[b]![t] !== 0);
    const own: ImagePatches[] = [];
    for (let left = real.filter((id) => id === config.imageTokenId).length; left > 0; ) {
      const next = images[image++]!;
      own.push(next);
      left -= (next.grid[0] * next.grid[1] * next.grid[2]) / merge;
    }
    return { inputIds: Int32Array.from(real), images: own, seed: 0 };
  });
  const generator = createGenerator(source, config, weights, { execution });
  try {
    const completions = await generator.generate(
      requests,
      {
        maxNewTokens: count,
        ...PLAIN_SAMPLING,
        temperature: 0,
      },
      { signal },
    );
    const got = completions.flatMap(([completion]) => completion!.tokenIds);
    const differing = want.filter((token, i) => token !== got[i]).length;
    return row('generated', 'tokens', differing, PARITY_TOLERANCE.generated, want.length);
  } finally {
    await generator.release();
  }
}

class LargestDifference {
  #error = 0;
  #scale = 0;

  add(got: number, want: number): void {
    const difference = Math.abs(got - want);
    if (!(difference <= this.#error)) this.#error = difference;
    this.#scale = Math.max(this.#scale, Math.abs(want));
  }

  row(name: string, tolerance: number): ParityRow {
    return row(name, 'largest difference', this.#error, tolerance, this.#scale);
  }
}

function row(name: string, measure: ParityRow['measure'], error: number, tolerance: number, scale: number): ParityRow {
  return { name, measure, error, tolerance, scale, within: error <= tolerance };
}

function numbersOf(file: SafetensorsFile, name: string): number[] {
  tensorShape(file, name);
  return Array.from(file.read(name).data as ArrayLike<number | bigint>, Number);
}

function tensorShape(file: SafetensorsFile, name: string): readonly number[] {
  if (!file.has(name)) throw invalid(file, `it has no tensor "${name}"`);
  return file.info(name).shape;
}

function checkSize(file: SafetensorsFile, name: string, size: number): void {
  const { shape } = file.info(name);
  if (sizeOf(shape) !== size)
    throw invalid(file, `${name} [${shape.join(', ')}] has ${sizeOf(shape)} values, expected ${size}`);
}

function invalid(file: SafetensorsFile, what: string): Fr1Error {
  return new Fr1Error('PARITY_FILE_INVALID', `${file.path} cannot be compared with: ${what}`, {
    hint: 'scripts/dump_expected.py writes such files from transformers',
  });
}
