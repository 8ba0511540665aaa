/** The teacher `attributes`: sentences from the known attributes of procedural-birds, without a model. */
import type { ImageRow } from '../../src/artifacts/types.ts';
import { WRONG_OPTIONS } from '../../src/datasets/hard-options.ts';
import { RandomStream } from '../../src/engine/random.ts';
import { promptOf, renderPrompt } from '../../src/methods/prompts.ts';
import { distractors } from '../../src/worlds/procedural-birds/options.ts';
import { attributeWords, distance, nameOf, speciesNamed } from '../../src/worlds/procedural-birds/species.ts';
import { rejectionOf, writeAnswer, writeThought } from '../../src/worlds/procedural-birds/thoughts.ts';
import type { RewriteOptions } from './options.ts';
import { chat, type Outcome } from './outcome.ts';

/** One chat for every row, and one more with options where they are asked for. */
export function writeFromAttributes(
  rows: readonly ImageRow[],
  classes: readonly string[],
  { thoughts, closedPrompts }: Pick<RewriteOptions, 'thoughts' | 'closedPrompts'>,
  seed: number,
): Outcome[] {
  const trainClasses = new Set(classes.flatMap((name) => speciesNamed(name) ?? []));
  return rows.flatMap((row) => {
    const { id, label, question } = row;
    const stream = new RandomStream('rewrite', seed, id);
    const prompts = closedPrompts === 'none' ? [null] : [null, optionsFor(row, classes, trainClasses, stream)];
    return prompts.map((options): Outcome => {
      if (options !== null && options.length <= WRONG_OPTIONS) {
        const reason = `its data has only ${options.length} classes, too few for ${WRONG_OPTIONS + 1} options`;
        return { id, label, reason };
      }
      const written = thoughts ? thoughtFor(row, trainClasses, options, stream) : { response: writeAnswer(label) };
      if ('reason' in written) return { id, label, reason: written.reason };
      const prompt =
        options === null || closedPrompts === 'none'
          ? question
          : renderPrompt(promptOf(closedPrompts, 'closed'), { question, options });
      return chat(row, prompt, written.response);
    });
  });
}

/** The row's attributes must be those of the species that its label names. */
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
