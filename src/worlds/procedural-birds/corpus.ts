/**
 * The base's pre-training data: chats about one image, from species and image seeds that no dataset ever uses.
 *
 * The base learns to perceive the attributes, to describe, and - in turns about text alone - how names follow from
 * descriptions and what tells two names apart. It does not learn the task: no turn names the bird in the image or offers
 * names to choose from, none asks one of the task's questions, and none has <think> and <answer> around a name. The words
 * and tags of the task do occur in turns about text, so that their embeddings are trained.
 */
import { RandomStream } from '../../engine/random.ts';
import { ATTRIBUTES } from './attributes.ts';
import { renderPixels } from './render.ts';
import { describe, differingAttribute, nameOf, neighbours, phrase, traitsOf } from './species.ts';
import { BASE_SPECIES, isBaseSpecies } from './split.ts';

export interface ChatMessage {
  readonly role: 'user' | 'assistant';
  /** `<image>` marks the place of the image. */
  readonly content: string;
}

export interface BaseSample {
  /** RGB bytes [112, 112, 3]. */
  readonly pixels: Uint8Array;
  readonly species: number;
  readonly messages: readonly ChatMessage[];
}

interface Turn {
  readonly ask: string;
  readonly reply: string;
}

/** Base species that differ from `species` in one attribute; at most `wanted`, in random order. */
function similarBase(species: number, stream: RandomStream, wanted: number): number[] {
  return stream.shuffled(neighbours(species).filter(isBaseSpecies)).slice(0, wanted);
}

/** Turns that can only be answered by looking. None of them names the bird. */
function lookingTurn(kind: number, species: number, stream: RandomStream): Turn {
  if (kind === 0) {
    return {
      ask: stream.choice(['Describe this bird.', 'What does it look like?', 'Describe the image.']),
      reply: `${describe(species)}.`,
    };
  }
  const i = stream.integer(ATTRIBUTES.length);
  const { noun, values } = ATTRIBUTES[i]!;
  const value = traitsOf(species)[i]!;
  if (kind === 1) {
    return {
      ask: stream.choice([`What ${noun}?`, `Look at the ${noun}.`, `Describe the ${noun}.`]),
      reply: `${phrase(i, value)}.`,
    };
  }
  const others = values.map((_, other) => other).filter((other) => other !== value);
  const pair = stream.shuffled([value, stream.choice(others)]).map((of) => values[of]!.word);
  return { ask: `Look at the ${noun}: ${pair[0]} or ${pair[1]}?`, reply: `${phrase(i, value)}.` };
}

/** e.g. `the crown is red, not green` */
function reason(species: number, other: number): string {
  const theirs = traitsOf(other);
  const i = differingAttribute(species, other);
  const { noun, values } = ATTRIBUTES[i]!;
  const verb = noun === 'wings' ? 'are' : 'is';
  return `the ${noun} ${verb} ${values[traitsOf(species)[i]!]!.word}, not ${values[theirs[i]!]!.word}`;
}

/** Turns about names and words; `species` is not the one in the image, so that nothing gives that one away. */
function knowingTurn(kind: number, species: number, stream: RandomStream): Turn {
  const name = nameOf(species);
  const [first, second] = similarBase(species, stream, 2);
  switch (kind) {
    case 0:
      return {
        ask: stream.choice([`Name a bird with ${describe(species)}.`, `A bird has ${describe(species)}. Which bird?`]),
        reply: `${name}.`,
      };
    case 1:
      return { ask: `How does ${name} look?`, reply: `${describe(species)}.` };
    case 2:
      return {
        ask: `List birds similar to ${name}.`,
        reply: `${[species, first!, second!].map(nameOf).slice(1).join(', ')}.`,
      };
    case 3:
      return { ask: `Compare ${name} with ${nameOf(first!)}.`, reply: `${reason(species, first!)}.` };
    case 4: {
      const value = ATTRIBUTES.map((attribute) => stream.integer(attribute.values.length));
      const i = stream.integer(ATTRIBUTES.length);
      return { ask: `What does ${ATTRIBUTES[i]!.values[value[i]!]!.name} mean?`, reply: `${phrase(i, value[i]!)}.` };
    }
    default:
      return echoTurn(stream);
  }
}

/** Words that the task's texts need and the other turns do not use; see {@link echoTurn}. */
export const NEUTRAL_WORDS: readonly string[] = [
  '<think>',
  '</think>',
  '<answer>',
  '</answer>',
  ...'Visual analysis: Candidate sub-categories: Comparison: The prediction is'.split(' '),
  ...'Given the question: based on the options provided in output thinking process and final choice tags.'.split(' '),
  ...'choice response format should be: This a fine-grained question. Output reasoning answer'.split(' '),
  ...'You first think through as an internal monologue, enclosed within Then, provide your'.split(' '),
  ...'species Which image? name of this Name shown? Can you bird? has not it'.split(' '),
  '...',
  'Given',
  "['",
  "'",
  "',",
  "']",
];

/** Words that open a question or prompt of the task. */
const OPENING_WORDS = ['Given', 'You', 'What', 'Which', 'Name', 'Can'] as const;

/** Copying a few words in random order: trains the embeddings of words without teaching what they are for. */
function echoTurn(stream: RandomStream): Turn {
  const others = Array.from({ length: 3 + stream.integer(4) }, () => stream.choice(NEUTRAL_WORDS));
  const words = [stream.choice(OPENING_WORDS), ...others].join(' ');
  return { ask: `${words} Repeat.`, reply: `Again: ${words}` };
}

const LOOKING_KINDS = 3;
/** Kinds of knowing turns, as often as they stand here: how a name follows from a description is the most of it. */
const KNOWING_KINDS = [0, 0, 0, 1, 1, 2, 3, 3, 4, 5] as const;

/** The texts of sample `index`: two or three turns, one of which looks at the whole bird. */
export function baseMessages(seed: number, index: number): { species: number; messages: ChatMessage[] } {
  const stream = new RandomStream('procedural-birds', 'corpus', seed, index);
  const species = stream.choice(BASE_SPECIES);
  const turns = [lookingTurn(0, species, stream)];
  if (stream.uniform() < 0.5) turns.push(lookingTurn(1 + stream.integer(LOOKING_KINDS - 1), species, stream));
  if (turns.length === 1 || stream.uniform() < 0.7) {
    turns.push(knowingTurn(stream.choice(KNOWING_KINDS), stream.choice(BASE_SPECIES), stream));
  }
  // The image stands before the first turn, whichever that is.
  const messages = stream.shuffled(turns).flatMap((turn, i): ChatMessage[] => [
    { role: 'user', content: (i === 0 ? '<image>' : '') + turn.ask },
    { role: 'assistant', content: turn.reply },
  ]);
  return { species, messages };
}

/** Pre-training sample `index`; equal seeds and indices give equal samples. */
export async function baseSample(seed: number, index: number): Promise<BaseSample> {
  const { species, messages } = baseMessages(seed, index);
  return { pixels: await renderPixels({ namespace: 'base', seed, species, index }), species, messages };
}
