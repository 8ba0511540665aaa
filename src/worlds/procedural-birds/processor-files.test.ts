import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AutoTokenizer, env, type PreTrainedTokenizer } from '@huggingface/transformers';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { RandomStream } from '../../engine/random.ts';
import { mergeWord, splitWords } from '../../tokenizer-training/byte-level-bpe.ts';
import { ATTRIBUTES, DESCRIPTIVE_WORDS, NAME_WORDS } from './attributes.ts';
import { baseMessages } from './corpus.ts';
import {
  ADDED_TOKENS,
  SPECIAL_TOKEN_IDS,
  trainTinyEncoding,
  VOCABULARY_SIZE,
  writeTinyProcessorFiles,
} from './processor-files.ts';
import { writeThought } from './thoughts.ts';

let directory: string;
let tokenizer: PreTrainedTokenizer;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'fr1-tokenizer-'));
  await writeTinyProcessorFiles(directory);
  env.allowRemoteModels = false;
  tokenizer = await AutoTokenizer.from_pretrained(directory);
});
afterAll(() => rm(directory, { recursive: true }));

describe('the tokenizer of fr1-tiny', () => {
  it('has one token for every name word, with and without a space, and for every descriptive word', () => {
    const words = [
      ...NAME_WORDS.flatMap((word) => [word, ` ${word}`]),
      ...DESCRIPTIVE_WORDS.map((word) => ` ${word}`),
      ...ATTRIBUTES.map((attribute) => ` ${attribute.noun}`),
    ];
    expect(words.filter((word) => tokenizer.encode(word).length !== 1)).toEqual([]);
    for (const { content } of ADDED_TOKENS) expect(tokenizer.encode(content).length).toBe(1);
  });

  it('gives text back unchanged and leaves only special tokens out', () => {
    const texts = [
      "Ünïcode é 日本 \n\n  tabs\t and 123 it's I'LL don't",
      '<think>a</think>\n<answer>Ruby Honey Ladder Kite</answer>',
      ...Array.from({ length: 50 }, (_, i) => writeThought(i * 17, new Set(), new RandomStream(i))),
    ];
    for (const text of texts) {
      expect(tokenizer.decode(tokenizer.encode(`${text}<|im_end|>`), { skip_special_tokens: true })).toBe(text);
    }
  });

  it('agrees with the trainer about the pieces of every word', () => {
    const { tokens, merges } = trainTinyEncoding();
    const ranks = new Map(merges.map(([left, right], rank) => [`${left} ${right}`, rank]));
    const ids = new Map(tokens.map((token, id) => [token, id]));
    for (let index = 0; index < 100; index++) {
      const text = baseMessages(9, index)
        .messages.map((message) => message.content.replace(/<[^>]+>/g, ''))
        .join('\n');
      const expected = splitWords(text).flatMap((word) => mergeWord(word, ranks).map((piece) => ids.get(piece)));
      expect(tokenizer.encode(text)).toEqual(expected);
    }
  });

  it('renders chats as ChatML without a default system message', () => {
    const chat = [
      { role: 'user', content: [{ type: 'image' }, { type: 'text', text: 'What bird?' }] },
      { role: 'assistant', content: 'A wren.' },
    ] as unknown as Parameters<PreTrainedTokenizer['apply_chat_template']>[0];
    expect(tokenizer.apply_chat_template(chat, { tokenize: false, add_generation_prompt: true })).toBe(
      '<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>What bird?<|im_end|>\n' +
        '<|im_start|>assistant\nA wren.<|im_end|>\n<|im_start|>assistant\n',
    );
  });

  it('numbers its control tokens as the files say', async () => {
    for (const [content, id] of Object.entries(SPECIAL_TOKEN_IDS)) expect(tokenizer.encode(content)).toEqual([id]);
    const generation = JSON.parse(await readFile(join(directory, 'generation_config.json'), 'utf8'));
    expect(generation.eos_token_id).toEqual(['<|im_end|>', '<|endoftext|>'].flatMap((text) => tokenizer.encode(text)));
    expect(Math.max(...ADDED_TOKENS.flatMap(({ content }) => tokenizer.encode(content)))).toBe(VOCABULARY_SIZE - 1);
  });

  it('is written the same every time', async () => {
    const again = await mkdtemp(join(tmpdir(), 'fr1-tokenizer-'));
    await writeTinyProcessorFiles(again);
    for (const file of ['tokenizer.json', 'tokenizer_config.json', 'preprocessor_config.json', 'chat_template.jinja']) {
      expect(await readFile(join(again, file))).toEqual(await readFile(join(directory, file)));
    }
    await rm(again, { recursive: true });
  });

  it('needs about 60 tokens for a chain of thought', () => {
    const lengths = Array.from(
      { length: 200 },
      (_, i) => tokenizer.encode(writeThought(i * 4, new Set(), new RandomStream(i))).length,
    );
    expect(lengths.reduce((sum, length) => sum + length, 0) / lengths.length).toBeLessThan(62);
    expect(Math.max(...lengths)).toBeLessThanOrEqual(66);
  });
});
