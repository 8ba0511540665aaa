/** Turns labelled images into chats for fine-tuning: question, chain of thought, answer. */
import path from 'node:path';
import { writeJsonLines } from '../../src/artifacts/json-lines.ts';
import { linkImages, readImageData, writeSftData } from '../../src/artifacts/rows.ts';
import type { ImageRow, SftRow } from '../../src/artifacts/types.ts';
import { RandomStream } from '../../src/engine/random.ts';
import { Fr1Error } from '../../src/errors/fr1-error.ts';
import { promptOf, renderPrompt } from '../../src/methods/prompts.ts';
import { loadStageSchema } from '../../src/run/load-schema.ts';
import { defineStage } from '../../src/run/stage-api.ts';
import { distractors } from '../../src/worlds/procedural-birds/options.ts';
import { attributeWords, distance, nameOf, speciesNamed } from '../../src/worlds/procedural-birds/species.ts';
import { rejectionOf, writeAnswer, writeThought } from '../../src/worlds/procedural-birds/thoughts.ts';
import type { RewriteOptions } from './options.ts';

interface Reject {
  readonly id: string;
  readonly label: string;
  readonly reason: string;
}

const SHOWN_REJECTS = 10;
/** Wrong options in a closed-world prompt. */
const WRONG_OPTIONS = 3;

export const rewriteStage = defineStage<RewriteOptions>({
  kind: 'rewrite',
  summary: 'Writes a checked chain of thought and an answer for every labelled image.',
  version: 2,
  schema: loadStageSchema(import.meta.url),
  outputs: {
    data: { type: 'sft-data', description: 'accepted chats; rejected.jsonl tells what was left out and why' },
  },
  metrics: ['accepted', 'rejected'],
  resources: () => ({ device: false }),
  async run(context) {
    const { data, thoughts, closedPrompts } = context.options;
    const { info, rows } = await readImageData(data.path);
    const trainClasses = new Set(info.classes.flatMap((name) => speciesNamed(name) ?? []));
    const accepted: SftRow[] = [];
    const rejects: Reject[] = [];
    for (const [i, row] of rows.entries()) {
      context.signal.throwIfAborted();
      const stream = new RandomStream('rewrite', context.seed, row.id);
      for (const options of closedPrompts === 'none'
        ? [null]
        : [null, optionsFor(row, info.classes, trainClasses, stream)]) {
        if (options !== null && options.length <= WRONG_OPTIONS) {
          const reason = `its data has only ${options.length} classes, too few for ${WRONG_OPTIONS + 1} options`;
          rejects.push({ id: row.id, label: row.label, reason });
          continue;
        }
        const written = thoughts
          ? thoughtFor(row, trainClasses, options, stream)
          : { response: writeAnswer(row.label) };
        if ('reason' in written) {
          rejects.push({ id: row.id, label: row.label, reason: written.reason });
          continue;
        }
        const { question } = row;
        const prompt =
          options === null || closedPrompts === 'none'
            ? question
            : renderPrompt(promptOf(closedPrompts, 'closed'), { question, options });
        accepted.push(chat(row, prompt, written.response));
      }
      context.progress({ done: i + 1, total: rows.length, unit: 'rows', note: `${rejects.length} rejected` });
    }
    if (accepted.length === 0) {
      throw new Fr1Error('DATA_INSUFFICIENT', `none of the ${rows.length} rows was accepted`, {
        hint: rejects[0] === undefined ? 'the data has no rows' : `row "${rejects[0].id}": ${rejects[0].reason}`,
      });
    }
    const output = context.outputs['data']!;
    await linkImages(
      data.path,
      output,
      accepted.flatMap((one) => one.images),
      context.signal,
    );
    await writeSftData(output, accepted);
    await writeJsonLines(path.join(output, 'rejected.jsonl'), rejects);
    if (rejects.length > 0) context.warn(`${rejects.length} of ${rows.length} rows were rejected`);
    return {
      metrics: { accepted: { value: accepted.length }, rejected: { value: rejects.length } },
      tables: rejects.length === 0 ? [] : [rejectTable(rejects)],
    };
  },
});

/** The teacher `attributes`: the row's attributes must be those of the species that its label names. */
function thoughtFor(
  row: ImageRow,
  trainClasses: ReadonlySet<number>,
  options: readonly string[] | null,
  stream: RandomStream,
): { readonly response: string } | { readonly reason: string } {
  if (row.attributes === undefined) return { reason: 'has no attributes to write from' };
  const species = speciesNamed(row.label);
  if (species === undefined) return { reason: 'its label is no species of procedural-birds' };
  const wrong = Object.entries(attributeWords(species)).find(([key, word]) => row.attributes?.[key] !== word);
  if (wrong !== undefined) {
    return { reason: `its ${wrong[0]} is "${row.attributes[wrong[0]]}", but that of "${row.label}" is "${wrong[1]}"` };
  }
  const offered = options
    ?.flatMap((name) => speciesNamed(name) ?? [])
    .filter((other) => distance(species, other) === 1);
  const response = writeThought(species, trainClasses, stream, offered);
  const reason = rejectionOf(response, row.label);
  return reason === null ? { response } : { reason };
}

/** The row's label among three others of the training data, in random order: near ones for species, else any. */
function optionsFor(
  row: ImageRow,
  classes: readonly string[],
  trainClasses: ReadonlySet<number>,
  stream: RandomStream,
): string[] {
  const species = speciesNamed(row.label);
  const others =
    species === undefined
      ? stream.shuffled(classes.filter((name) => name !== row.label)).slice(0, WRONG_OPTIONS)
      : distractors(species, [...trainClasses], stream).map(nameOf);
  return stream.shuffled([row.label, ...others]);
}

function chat(row: ImageRow, prompt: string, response: string): SftRow {
  return {
    messages: [
      { role: 'user', content: `<image>${prompt}` },
      { role: 'assistant', content: response },
    ],
    images: [row.image],
  };
}

function rejectTable(rejects: readonly Reject[]) {
  return {
    title: 'Rejected rows',
    columns: ['row', 'label', 'reason'],
    rows: rejects.slice(0, SHOWN_REJECTS).map(({ id, label, reason }) => [id, label, reason]),
    notes: rejects.length > SHOWN_REJECTS ? [`and ${rejects.length - SHOWN_REJECTS} more in rejected.jsonl`] : [],
  };
}
