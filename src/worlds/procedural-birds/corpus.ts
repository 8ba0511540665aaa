/**
 * The base's pre-training data: chats about one image, from species and image seeds that no dataset ever uses.
 *
 * The base learns to perceive the attributes, how names are made, to choose among options and to compare. It does not
 * learn the task's form: no turn asks one of the task's questions or answers with <think> and <answer> around a name. The
 * words and tags of the task do occur in turns about text, so that their embeddings are trained.
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

/** A base species that differs from `species` in one attribute, as far as the base has one. */
function similarBase(species: number, stream: RandomStream, wanted: number): number[] {
  return stream.shuffled(neighbours(species).filter(isBaseSpecies)).slice(0, wanted);
}

/**
 * Base species that differ from `species` and from each other in one and the same attribute, so that a list of them does
 * not give its centre away.
 */
function siblings(species: number, stream: RandomStream, wanted: number): number[] {
  const near = neighbours(species).filter(isBaseSpecies);
  const first = stream.choice(near);
  const attribute = differingAttribute(species, first);
  const line = near.filter((other) => differingAttribute(species, other) === attribute);
  return stream.shuffled(line).slice(0, wanted);
}

/** Turns that can only be answered by looking. */
function lookingTurn(kind: number, species: number, stream: RandomStream): Turn {
  const name = nameOf(species);
  switch (kind) {
    case 0:
      return {
        ask: stream.choice(['Describe this bird.', 'What does it look like?', 'Describe the image.']),
        reply: `${describe(species)}.`,
      };
    case 1:
      return { ask: stream.choice(['What bird is this?', 'What is it called?']), reply: `${name}.` };
    case 2: {
      const i = stream.integer(ATTRIBUTES.length);
      const noun = ATTRIBUTES[i]!.noun;
      return {
        ask: stream.choice([`What ${noun}?`, `Look at the ${noun}.`, `Describe the ${noun}.`]),
        reply: `${phrase(i, traitsOf(species)[i]!)}.`,
      };
    }
    case 3: {
      const options = stream.shuffled([species, ...siblings(species, stream, 3)]).map(nameOf);
      return { ask: `What bird is this? Options: ${options.join(', ')}.`, reply: `${name}.` };
    }
    default: {
      const [other] = similarBase(species, stream, 1);
      const pair = stream.shuffled([species, other!]).map(nameOf);
      return { ask: `Is it ${pair[0]} or ${pair[1]}?`, reply: `${name}, ${reason(species, other!)}.` };
    }
  }
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
      return { ask: `Name a bird with ${describe(species)}.`, reply: `${name}.` };
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

const LOOKING_KINDS = 5;
const KNOWING_KINDS = 6;

/** The texts of sample `index`: two or three turns, the first of which looks at the whole bird. */
export function baseMessages(seed: number, index: number): { species: number; messages: ChatMessage[] } {
  const stream = new RandomStream('procedural-birds', 'corpus', seed, index);
  const species = stream.choice(BASE_SPECIES);
  const first = stream.integer(2);
  const turns = [lookingTurn(first, species, stream)];
  const other = stream.uniform();
  if (other < 0.2) turns.push(lookingTurn(1 - first, species, stream));
  else if (other < 0.75) turns.push(lookingTurn(2 + stream.integer(LOOKING_KINDS - 2), species, stream));
  if (turns.length === 1 || stream.uniform() < 0.6) {
    turns.push(knowingTurn(stream.integer(KNOWING_KINDS), stream.choice(BASE_SPECIES), stream));
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
