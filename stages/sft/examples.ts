/**
 * Chats as rows of a batch: encoded once, put in order by seed and epoch, and cut into micro-batches when needed.
 */
import path from 'node:path';
import { readSftData } from '../../src/artifacts/rows.ts';
import type { SftRow } from '../../src/artifacts/types.ts';
import type { ImagePatches } from '../../src/engine/generate/types.ts';
import { buildBatch, type Row } from '../../src/engine/models/qwen2_5_vl/batch.ts';
import type { ImageCache } from '../../src/engine/models/qwen2_5_vl/image-cache.ts';
import type { Processor } from '../../src/engine/models/qwen2_5_vl/processor.ts';
import type { ImageGrid } from '../../src/engine/models/qwen2_5_vl/vision-layout.ts';
import { RandomStream } from '../../src/engine/random.ts';
import type { PlannedBatch } from '../../src/engine/recipes/supervised.ts';
import { Fr1Error } from '../../src/errors/fr1-error.ts';
import { ANSWER_OPEN, firstAnswer } from '../../src/methods/answer.ts';
import { lower } from '../../src/methods/python-text.ts';
import { scoreResponse } from '../../src/methods/reward.ts';

/** A chat in tokens. Everything up to where the answer begins is the prefix; all that follows is learnt. */
export interface Example {
  readonly prefix: Int32Array;
  /** The answer, the end of its turn and the line break after it. */
  readonly answer: Int32Array;
  /** Absolute paths. */
  readonly images: readonly string[];
  /** Whether the answer reads <think>...</think><answer>...</answer>. */
  readonly hasForm: boolean;
  /** Whether the thought says the answer somewhere; true where there is no thought. */
  readonly namesAnswer: boolean;
}

export interface ReadOptions {
  readonly maxTokens: number;
  readonly signal: AbortSignal;
  onRead(done: number, total: number): void;
}

/**
 * Reads and encodes all chats of an sft-data folder.
 *
 * @throws DATA_UNREADABLE, DATA_ROW_INVALID, IMAGE_UNREADABLE, IMAGE_COUNT_MISMATCH naming the chat
 */
export async function readExamples(
  folder: string,
  processor: Processor,
  images: ImageCache,
  { maxTokens, signal, onRead }: ReadOptions,
): Promise<Example[]> {
  const rows = await readSftData(folder);
  if (rows.length === 0) throw new Fr1Error('DATA_INSUFFICIENT', `${path.join(folder, 'data.json')} holds no chats`);
  const examples: Example[] = [];
  for (const [index, row] of rows.entries()) {
    signal.throwIfAborted();
    try {
      examples.push(await encodeExample(row, folder, processor, images, maxTokens));
    } catch (cause) {
      if (!(cause instanceof Fr1Error)) throw cause;
      const place = `${path.join(folder, 'data.json')}: chat ${index}`;
      throw new Fr1Error(cause.code, `${place}: ${cause.message}`, { hint: cause.hint, cause });
    }
    onRead(index + 1, rows.length);
  }
  return examples;
}

/** @throws DATA_ROW_INVALID, IMAGE_UNREADABLE, IMAGE_COUNT_MISMATCH, TOKENIZER_INVALID */
export async function encodeExample(
  row: SftRow,
  folder: string,
  processor: Processor,
  cache: ImageCache,
  maxTokens: number,
): Promise<Example> {
  const answers = row.messages.filter(({ role }) => role === 'assistant').length;
  if (answers !== 1) {
    throw new Fr1Error('DATA_ROW_INVALID', `it has ${answers} answers; only chats with one answer are learnt`);
  }
  const content = row.messages.at(-1)!.content;
  if (content.trim() === '') throw new Fr1Error('DATA_ROW_INVALID', 'its answer is empty');
  const images = row.images.map((image) => path.join(folder, image));
  const loaded = [];
  for (const image of images) loaded.push(await cache.load(image));
  const { inputIds, labelStart } = processor.encodeForTraining(row.messages, loaded);
  if (inputIds.length > maxTokens) {
    throw new Fr1Error('DATA_ROW_INVALID', `it has ${inputIds.length} tokens, more than maxTokens ${maxTokens}`, {
      hint: 'raise maxTokens, lower maxPixels or shorten the chat',
    });
  }
  const tooHigh = inputIds.find((id) => id >= processor.config.text.vocabSize);
  if (tooHigh !== undefined) {
    throw new Fr1Error('DATA_ROW_INVALID', `it has token ${tooHigh}, which the model's vocabulary lacks`);
  }
  const hasForm = scoreResponse(content, '').format === 1;
  return {
    prefix: inputIds.slice(0, labelStart),
    answer: inputIds.slice(labelStart),
    images,
    hasForm,
    namesAnswer: !hasForm || namesAnswer(content),
  };
}

function namesAnswer(content: string): boolean {
  const answer = firstAnswer(content);
  return answer === null || words(content.slice(0, content.indexOf(ANSWER_OPEN))).includes(words(answer));
}

/** Letters and digits in lower case with single blanks, so that `red-bellied` is named by `Red Bellied`. */
function words(text: string): string {
  return lower(text)
    .replace(/[^\p{L}\p{M}\p{N}]+/gu, ' ')
    .trim();
}

export interface OrderOptions {
  readonly seed: number;
  readonly batchSize: number;
  readonly microBatchSize: number;
  readonly sortByLength: boolean;
}

/** Updates that a pass over the data takes. */
export function stepsPerEpoch(examples: number, batchSize: number): number {
  return Math.ceil(examples / batchSize);
}

/** The micro-batches of an update, from 0: a function of seed and step alone. */
export function microBatchesOf<T extends { readonly prefix: Int32Array; readonly answer: Int32Array }>(
  step: number,
  examples: readonly T[],
  { seed, batchSize, microBatchSize, sortByLength }: OrderOptions,
): T[][] {
  const perEpoch = stepsPerEpoch(examples.length, batchSize);
  const epoch = Math.floor(step / perEpoch);
  const from = (step % perEpoch) * batchSize;
  const chosen = new RandomStream(seed, 'sft-order', epoch).shuffled(examples).slice(from, from + batchSize);
  const lengthOf = ({ prefix, answer }: T) => prefix.length + answer.length;
  if (sortByLength) chosen.sort((a, b) => lengthOf(a) - lengthOf(b));
  return Array.from({ length: Math.ceil(chosen.length / microBatchSize) }, (_, i) =>
    chosen.slice(i * microBatchSize, (i + 1) * microBatchSize),
  );
}

/** A micro-batch that loads its images when it is built; an image that several chats show is read once. */
export function planBatch(examples: readonly Example[], processor: Processor, cache: ImageCache): PlannedBatch {
  return {
    targetTokens: examples.reduce((sum, { answer }) => sum + answer.length, 0),
    async build() {
      const places = new Map<string, number>();
      const images: ImagePatches[] = [];
      const rows: Row[] = [];
      for (const { prefix, answer, images: paths } of examples) {
        for (const path of paths) {
          if (places.has(path)) continue;
          places.set(path, images.length);
          images.push(await cache.load(path));
        }
        rows.push({ prefix, images: paths.map((path) => places.get(path)!), branches: [{ ids: answer }] });
      }
      return buildBatch(processor.config, rows, images);
    },
  };
}

/** What the largest micro-batch can take: as many of the longest chat as go together. */
export async function largestBatch(
  examples: readonly Example[],
  { batchSize, microBatchSize }: { readonly batchSize: number; readonly microBatchSize: number },
  cache: ImageCache,
) {
  const tokensOf = ({ prefix, answer }: Example) => prefix.length + answer.length;
  const longest = examples.reduce((a, b) => (tokensOf(b) > tokensOf(a) ? b : a));
  const rows = Math.min(microBatchSize, batchSize, examples.length);
  const grids: ImageGrid[] = [];
  for (const image of longest.images) grids.push((await cache.load(image)).grid);
  return {
    rows,
    tokens: tokensOf(longest),
    targets: rows * longest.answer.length,
    images: Array.from({ length: rows }, () => grids).flat(),
    accumulates: batchSize > microBatchSize,
  };
}
