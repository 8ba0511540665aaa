/** Triplets as questions: prompts in tokens and patches, and the reward of an answer. */
import path from 'node:path';
import { type Dataset, readTripletData } from '../../src/artifacts/rows.ts';
import type { TripletRow } from '../../src/artifacts/types.ts';
import { imageSize } from '../../src/engine/image/load-image.ts';
import { needsNegative } from '../../src/engine/loss/tapo.ts';
import { addDiffusionNoise, maskPatches } from '../../src/engine/models/qwen2_5_vl/distortions.ts';
import type { ImageCache } from '../../src/engine/models/qwen2_5_vl/image-cache.ts';
import type { ProcessedImage } from '../../src/engine/models/qwen2_5_vl/image-processor.ts';
import { aboutImage, type Processor } from '../../src/engine/models/qwen2_5_vl/processor.ts';
import type { ImageGrid } from '../../src/engine/models/qwen2_5_vl/vision-layout.ts';
import { RandomStream } from '../../src/engine/random.ts';
import type { Draw, Prompt, Question } from '../../src/engine/recipes/tapo.ts';
import { fitsLayout } from '../../src/engine/recipes/view-layout.ts';
import { Fr1Error } from '../../src/errors/fr1-error.ts';
import type { MethodSwitches } from '../../src/methods/presets.ts';
import { promptOf, renderPrompt } from '../../src/methods/prompts.ts';
import { noiseStrength } from '../../src/methods/tapo-presets.ts';
import type { TapoOptions } from './options.ts';
import type { ResolvedSettings } from './settings.ts';
import { scoresOtherImages } from './switches.ts';

export interface TripletQuestion extends Question {
  readonly row: TripletRow;
}

/**
 * All rows of a triplet-data folder.
 *
 * @throws DATA_UNREADABLE, DATA_ROW_INVALID
 * @throws DATA_INSUFFICIENT without rows
 */
export async function readTriplets(folder: string): Promise<Dataset<TripletRow>> {
  const data = await readTripletData(folder);
  if (data.rows.length === 0) throw new Fr1Error('DATA_INSUFFICIENT', `${path.join(folder, 'rows.jsonl')} has no rows`);
  return data;
}

/**
 * Looks at the headers of all images before hours are spent on some.
 *
 * @throws DATA_ROW_INVALID naming the first row with an image that does not fit its anchor's layout, and how many there are
 */
export async function requireLayouts(
  rows: readonly TripletRow[],
  { folder, images, viewLayout, settings }: Pick<QuestionMaker, 'folder' | 'images' | 'viewLayout' | 'settings'>,
  signal: AbortSignal,
): Promise<void> {
  if (viewLayout !== 'anchor' || !scoresOtherImages(settings)) return;
  const { views, positiveConditioning, loss } = settings;
  const others = [
    ...(views.positive === 'same-class' && positiveConditioning === 'own' ? (['positive'] as const) : []),
    ...(views.negative === 'other-class' && needsNegative(loss) ? (['negative'] as const) : []),
  ];
  const gridOf = async (image: string) => images.gridOf(await imageSize(path.join(folder, image)));
  let first: Fr1Error | null = null;
  let count = 0;
  for (const row of rows) {
    signal.throwIfAborted();
    const anchor = await gridOf(row.anchor);
    for (const view of others) {
      const problem = layoutProblem(anchor, await gridOf(row[view]), view);
      if (problem === null) continue;
      first ??= namingRow(problem, folder, row);
      count++;
      break;
    }
  }
  if (first === null) return;
  const { code, message, hint } = first;
  throw new Fr1Error(code, count === 1 ? message : `${message}; ${count} of ${rows.length} rows are so`, { hint });
}

/** What a question is made with. */
export interface QuestionMaker {
  /** Folder of the triplets. */
  readonly folder: string;
  readonly prompt: TapoOptions['prompt'];
  readonly settings: Pick<ResolvedSettings, 'views' | 'positiveConditioning' | 'maskedShare' | 'noise' | 'loss'>;
  readonly viewLayout: MethodSwitches['viewLayout'];
  readonly processor: Processor;
  readonly images: ImageCache;
  readonly seed: number;
  readonly totalSteps: number;
}

/** What the model is asked. */
export function promptText({ question, options = [] }: TripletRow, prompt: TapoOptions['prompt']): string {
  return renderPrompt(promptOf(prompt, options.length > 0 ? 'closed' : 'rl'), { question, options });
}

/**
 * A row with the images that take part. Masks and noise are drawn anew each time that a row is drawn.
 *
 * @throws IMAGE_UNREADABLE and others, naming the row
 */
export async function questionOf(row: TripletRow, draw: Draw, maker: QuestionMaker): Promise<TripletQuestion> {
  const { folder, settings, processor, images, seed, totalSteps } = maker;
  const text = promptText(row, maker.prompt);
  const promptFor = (image: ProcessedImage): Prompt => {
    const messages = [{ role: 'user' as const, content: aboutImage(text) }];
    const { inputIds } = processor.encodeChat(messages, [image], { addGenerationPrompt: true });
    return { inputIds, images: [image] };
  };
  const load = (image: string) => images.load(path.join(folder, image));
  const random = (purpose: string) => new RandomStream(seed, purpose, draw.step, draw.place, row.id);
  try {
    const anchor = await load(row.anchor);
    const positiveImage = async () => {
      switch (settings.views.positive) {
        case 'same-class':
          return load(row.positive);
        case 'noise': {
          const strength = noiseStrength(draw.step, totalSteps, settings.noise);
          return addDiffusionNoise(anchor, processor.images, strength, random('noise'));
        }
        case 'none':
          return null;
        default:
          return settings.views.positive satisfies never;
      }
    };
    const negativeImage = async () => {
      if (!needsNegative(settings.loss)) return null;
      return settings.views.negative === 'masked'
        ? maskPatches(anchor, processor.images, settings.maskedShare, random('mask'))
        : load(row.negative);
    };
    const [positive, negative] = [await positiveImage(), await negativeImage()];
    if (maker.viewLayout === 'anchor') {
      if (settings.positiveConditioning === 'own') requireFit(anchor, positive, 'positive');
      requireFit(anchor, negative, 'negative');
    }
    return {
      id: row.id,
      row,
      anchor: promptFor(anchor),
      positive: positive && promptFor(positive),
      negative: negative && promptFor(negative),
    };
  } catch (cause) {
    throw cause instanceof Fr1Error ? namingRow(cause, folder, row) : cause;
  }
}

function namingRow(cause: Fr1Error, folder: string, { id }: TripletRow): Fr1Error {
  const place = `${path.join(folder, 'rows.jsonl')}: row "${id}"`;
  return new Fr1Error(cause.code, `${place}: ${cause.message}`, { hint: cause.hint, cause });
}

/** @throws DATA_ROW_INVALID where the image has more or fewer tokens than the anchor, in whose layout it is scored */
function requireFit(anchor: ProcessedImage, image: ProcessedImage | null, view: 'positive' | 'negative'): void {
  const problem = image && layoutProblem(anchor.grid, image.grid, view);
  if (problem) throw problem;
}

function layoutProblem(anchor: ImageGrid, image: ImageGrid, view: 'positive' | 'negative'): Fr1Error | null {
  if (fitsLayout({ images: [{ grid: anchor }] }, { images: [{ grid: image }] })) return null;
  const shape = ([, height, width]: ImageGrid) => `${width} x ${height}`;
  return new Fr1Error(
    'DATA_ROW_INVALID',
    `the ${view} image has ${shape(image)} patches and the anchor ${shape(anchor)}; with viewLayout anchor it needs as many`,
    { hint: 'viewLayout: own scores each image in its own layout; triplets with sizes: anchor makes images alike' },
  );
}
