/**
 * Construction of chains of thought with a teacher that sees the images: captions of every image, selection of concepts over all
 * of them, a thought per image that is written again until it passes the check.
 *
 * Departures from Fine-R1, which ships no script: concepts are the lines of an image's captions, selected by counts of words
 * unless a text model is given (informative-concepts.ts tells what is published of that); the place of the true
 * class among the candidates is shuffled, where it is the first in four of five of its chats; no text is mended by hand.
 */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import type { ImageRow } from '../../src/artifacts/types.ts';
import { RandomStream } from '../../src/engine/random.ts';
import type { CallLog } from './call-log.ts';
import type { Captioned, ConceptSelector } from './concepts.ts';
import { RowRefused, type Teacher, type TeacherImage } from './teacher.ts';
import { captionPrompt, thoughtPrompt } from './teacher-prompts.ts';
import { readThought, reordered, responseOf } from './thought.ts';

export interface ConstructionSettings {
  readonly captions: number;
  readonly concepts: number;
  readonly candidates: number;
  readonly attempts: number;
  readonly candidateOrder: 'shuffled' | 'label-first';
  readonly language: 'latin' | 'any';
  readonly maxNewTokens: number;
  readonly temperature: number;
  readonly seed: number;
}

export interface ConstructionInput {
  readonly rows: readonly ImageRow[];
  /** Folder of the rows' images. */
  readonly folder: string;
  readonly superCategory: string;
  readonly signal: AbortSignal;
  /** Made from the captions of all images. */
  selectorOf(images: readonly Captioned[]): Promise<ConceptSelector>;
  onProgress(done: number, total: number, note: string): void;
}

/** A row's response, or why there is none. `refusals` are the reasons for which texts were written again. */
export type Written = { readonly row: ImageRow; readonly refusals: readonly string[] } & (
  | { readonly response: string }
  | { readonly reason: string }
);

/** In the order of the rows. @throws TEACHER_UNREACHABLE, TEACHER_REFUSED */
export async function constructThoughts(
  teacher: Teacher,
  log: CallLog,
  settings: ConstructionSettings,
  input: ConstructionInput,
): Promise<Written[]> {
  const { rows, folder, superCategory, signal, onProgress } = input;
  const written: Written[] = new Array(rows.length);
  const captioned: ((Captioned & { readonly image: TeacherImage }) | undefined)[] = new Array(rows.length);
  const ask = async (name: string, prompt: string, image: TeacherImage, signal: AbortSignal): Promise<string> => {
    const { maxNewTokens, temperature } = settings;
    const seed = new RandomStream(settings.seed, 'teacher', name).uint32() >>> 1;
    return (await log.ask(teacher, { name, prompt, image, seed, maxNewTokens, temperature }, signal)).text;
  };

  const caption = async (row: ImageRow, index: number, signal: AbortSignal) => {
    const image = await imageOf(path.join(folder, row.image));
    const captions: string[] = [];
    try {
      for (let i = 0; i < settings.captions; i++) {
        captions.push(await ask(`${row.id} caption ${i}`, captionPrompt(superCategory, i), image, signal));
      }
      captioned[index] = { label: row.label, captions, image };
    } catch (error) {
      if (!(error instanceof RowRefused)) throw error;
      written[index] = { row, refusals: [], reason: error.message };
    }
  };
  const total = 2 * rows.length;
  await forEach(rows, teacher.concurrency, signal, caption, (done) => onProgress(done, total, 'captions'));

  const select = await input.selectorOf(captioned.filter((each) => each !== undefined));
  let rejected = 0;
  const think = async (row: ImageRow, index: number, signal: AbortSignal) => {
    const captions = captioned[index];
    if (captions !== undefined) {
      const concepts = select(captions, settings.concepts);
      const prompt = thoughtPrompt({ superCategory, ...row, concepts, candidates: settings.candidates });
      written[index] = await writtenFor(row, settings, (attempt) =>
        ask(`${row.id} thought ${attempt}`, prompt, captions.image, signal),
      );
    }
    if ('reason' in written[index]!) rejected++;
  };
  await forEach(rows, teacher.concurrency, signal, think, (done) =>
    onProgress(rows.length + done, total, `thoughts, ${rejected} rejected`),
  );
  return written;
}

/** Asks until a thought passes the check. */
async function writtenFor(
  row: ImageRow,
  { attempts, candidates: maxCandidates, language, candidateOrder, seed }: ConstructionSettings,
  ask: (attempt: number) => Promise<string>,
): Promise<Written> {
  const { label } = row;
  const refusals: string[] = [];
  for (let attempt = 0; attempt < attempts; attempt++) {
    let text: string;
    try {
      text = await ask(attempt);
    } catch (error) {
      if (!(error instanceof RowRefused)) throw error;
      return { row, refusals, reason: error.message };
    }
    const thought = readThought(text, { label, maxCandidates, language });
    if ('problem' in thought) {
      refusals.push(thought.problem);
      continue;
    }
    const places = thought.candidates.map((_, i) => i);
    const own = thought.candidates.indexOf(label);
    const order =
      candidateOrder === 'shuffled'
        ? new RandomStream(seed, 'candidates', row.id).shuffled(places)
        : [own, ...places.filter((place) => place !== own)];
    const response = responseOf(reordered(thought, order), label);
    if (typeof response === 'string') return { row, refusals, response };
    refusals.push(response.problem);
  }
  return { row, refusals, reason: `no thought passed in ${attempts} attempts; the last: ${refusals.at(-1)}` };
}

async function imageOf(file: string): Promise<TeacherImage> {
  const sha256 = createHash('sha256')
    .update(await readFile(file))
    .digest('hex');
  return { path: file, sha256 };
}

/** Works on a few rows at a time, begun in order; the first failure ends the others. */
async function forEach<T>(
  items: readonly T[],
  atOnce: number,
  signal: AbortSignal,
  work: (item: T, index: number, signal: AbortSignal) => Promise<void>,
  onDone: (done: number) => void,
): Promise<void> {
  const failed = new AbortController();
  const both = AbortSignal.any([signal, failed.signal]);
  let next = 0;
  let done = 0;
  const worker = async () => {
    while (next < items.length) {
      both.throwIfAborted();
      const index = next++;
      await work(items[index]!, index, both);
      onDone(++done);
    }
  };
  const workers = Array.from({ length: Math.min(atOnce, items.length) }, () =>
    worker().catch((error: unknown) => {
      failed.abort(error);
      throw error;
    }),
  );
  // All come to rest before the failure is told, so that nothing is written afterwards.
  await Promise.allSettled(workers);
  signal.throwIfAborted();
  failed.signal.throwIfAborted();
}
