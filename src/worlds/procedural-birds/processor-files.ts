/** The tokenizer and image processor of fr1-tiny, trained on the world's own texts. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { RandomStream } from '../../engine/random.ts';
import { type BytePairEncoding, trainBytePairEncoding } from '../../tokenizer-training/byte-level-bpe.ts';
import {
  type AddedToken,
  QWEN_SPECIAL_TOKENS,
  writeJson,
  writeTokenizerFiles,
} from '../../tokenizer-training/tokenizer-files.ts';
import { ATTRIBUTES, DESCRIPTIVE_WORDS, NAME_WORDS } from './attributes.ts';
import { baseMessages, NEUTRAL_WORDS } from './corpus.ts';
import { IMAGE_SIDE } from './draw.ts';
import { QUESTIONS } from './questions.ts';
import { BASE_SPECIES } from './split.ts';
import { writeThought } from './thoughts.ts';

/** Vocabulary of fr1-tiny, added tokens included. */
export const VOCABULARY_SIZE = 768;

const MAX_LENGTH = 1024;
const TEXT_SAMPLES = 4000;
const TEXT_SEED = 0;

/** The four tags are tokens of their own, as in Qwen3; they are ordinary text when decoded. */
export const ADDED_TOKENS: readonly AddedToken[] = [
  ...QWEN_SPECIAL_TOKENS.map((content) => ({ content, special: true })),
  ...['<think>', '</think>', '<answer>', '</answer>'].map((content) => ({ content, special: false })),
];

export type TokenName = (typeof QWEN_SPECIAL_TOKENS)[number];

/** Ids of the control tokens, for config.json. */
export const SPECIAL_TOKEN_IDS = Object.fromEntries(
  QWEN_SPECIAL_TOKENS.map((content, i) => [content, VOCABULARY_SIZE - ADDED_TOKENS.length + i]),
) as Readonly<Record<TokenName, number>>;

function* trainingTexts(): Generator<string> {
  const tag = /<\/?(?:think|answer)>|<image>/;
  const pieces = (text: string) => text.split(tag).filter((piece) => piece !== '');
  for (let index = 0; index < TEXT_SAMPLES; index++) {
    for (const message of baseMessages(TEXT_SEED, index).messages) yield* pieces(message.content);
    const stream = new RandomStream('procedural-birds', 'tokenizer', index);
    yield* pieces(writeThought(stream.choice(BASE_SPECIES), new Set(), stream));
    yield stream.choice(QUESTIONS);
    yield 'user\n';
    yield 'assistant\n';
  }
}

/** The prompts' words and signs that do not follow a space. */
const UNSPACED = [
  'Given',
  'You',
  'What',
  'Which',
  'Name',
  'Can',
  'choice',
  '-grained',
  '-categories',
  '...',
  "['",
  "',",
  "']",
];

/** Words that are one token: name words with and without a space, all other words of the world after a space. */
function wholeWords(): string[] {
  const spaced = [
    ...DESCRIPTIVE_WORDS,
    ...ATTRIBUTES.map((attribute) => attribute.noun),
    ...NEUTRAL_WORDS.flatMap((word) => /^\p{L}+/u.exec(word)?.[0] ?? []),
    "['",
    "'",
  ];
  return [
    ...new Set([...NAME_WORDS.flatMap((word) => [word, ` ${word}`]), ...UNSPACED, ...spaced.map((word) => ` ${word}`)]),
  ];
}

export function trainTinyEncoding(): BytePairEncoding {
  return trainBytePairEncoding({
    texts: trainingTexts(),
    wholeWords: wholeWords(),
    size: VOCABULARY_SIZE - ADDED_TOKENS.length,
  });
}

/**
 * Writes what a model folder needs beside weights and config.json: tokenizer.json, tokenizer_config.json,
 * chat_template.jinja, preprocessor_config.json and generation_config.json. Equal on every call.
 */
export async function writeTinyProcessorFiles(directory: string): Promise<void> {
  await mkdir(directory, { recursive: true });
  await writeTokenizerFiles(directory, { encoding: trainTinyEncoding(), added: ADDED_TOKENS, maxLength: MAX_LENGTH });
  // Any photo is scaled to at most the area of a bird image and at least one of 56 x 56 px, sides in multiples of 28.
  const minPixels = 56 * 56;
  const maxPixels = IMAGE_SIDE * IMAGE_SIDE;
  await writeJson(join(directory, 'preprocessor_config.json'), {
    image_processor_type: 'Qwen2VLImageProcessor',
    processor_class: 'Qwen2_5_VLProcessor',
    do_convert_rgb: true,
    do_resize: true,
    resample: 3,
    do_rescale: true,
    rescale_factor: 1 / 255,
    do_normalize: true,
    image_mean: [0.48145466, 0.4578275, 0.40821073],
    image_std: [0.26862954, 0.26130258, 0.27577711],
    min_pixels: minPixels,
    max_pixels: maxPixels,
    size: { shortest_edge: minPixels, longest_edge: maxPixels },
    patch_size: 14,
    temporal_patch_size: 2,
    merge_size: 2,
  });
  await writeJson(join(directory, 'generation_config.json'), {
    bos_token_id: SPECIAL_TOKEN_IDS['<|endoftext|>'],
    pad_token_id: SPECIAL_TOKEN_IDS['<|endoftext|>'],
    eos_token_id: [SPECIAL_TOKEN_IDS['<|im_end|>'], SPECIAL_TOKEN_IDS['<|endoftext|>']],
    do_sample: false,
    repetition_penalty: 1,
  });
}
