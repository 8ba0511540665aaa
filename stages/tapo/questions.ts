/** Triplets as questions: prompts in tokens and patches, and the reward of an answer. */
import path from 'node:path';
import { type Dataset, readTripletData } from '../../src/artifacts/rows.ts';
import type { TripletRow } from '../../src/artifacts/types.ts';
import type { ImageCache } from '../../src/engine/models/qwen2_5_vl/image-cache.ts';
import { IMAGE_MARKER, type Processor } from '../../src/engine/models/qwen2_5_vl/processor.ts';
import type { Prompt, Question } from '../../src/engine/recipes/tapo.ts';
import { Fr1Error } from '../../src/errors/fr1-error.ts';
import { promptOf, renderPrompt } from '../../src/methods/prompts.ts';
import type { TapoOptions } from './options.ts';

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
 * A row with the images that take part.
 *
 * @throws IMAGE_UNREADABLE and others, naming the row
 */
export async function questionOf(
  row: TripletRow,
  folder: string,
  { views, prompt }: Pick<TapoOptions, 'views' | 'prompt'>,
  processor: Processor,
  images: ImageCache,
  needsNegative: boolean,
): Promise<TripletQuestion> {
  const text = renderPrompt(promptOf(prompt, 'rl'), { question: row.question, options: [] });
  const about = async (image: string): Promise<Prompt> => {
    try {
      const processed = await images.load(path.join(folder, image));
      const messages = [{ role: 'user' as const, content: `${IMAGE_MARKER}${text}` }];
      const { inputIds } = processor.encodeChat(messages, [processed], { addGenerationPrompt: true });
      return { inputIds, images: [processed] };
    } catch (cause) {
      if (!(cause instanceof Fr1Error)) throw cause;
      const place = `${path.join(folder, 'rows.jsonl')}: row "${row.id}"`;
      throw new Fr1Error(cause.code, `${place}: ${cause.message}`, { hint: cause.hint, cause });
    }
  };
  return {
    id: row.id,
    row,
    anchor: await about(row.anchor),
    positive: views.positive === 'same-class' ? await about(row.positive) : null,
    negative: needsNegative ? await about(row.negative) : null,
  };
}
