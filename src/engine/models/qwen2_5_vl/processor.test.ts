import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ChatMessage, openProcessor, type Processor } from './processor.ts';
import type { ImageGrid } from './vision-layout.ts';

const FIXTURE = fileURLToPath(new URL('../../../../test/fixtures/tokenizer_tiny', import.meta.url));

/** Made with transformers 5.17.0 and tokenizers over the same files. */
const golden = JSON.parse(readFileSync(join(FIXTURE, 'expected.json'), 'utf8')) as {
  encode: { text: string; ids: number[] }[];
  chat: { prompt: string; ids: number[]; response: string; response_ids: number[] };
};
const SYSTEM: ChatMessage = { role: 'system', content: 'You are a helpful assistant.' };
const QUESTION: ChatMessage = { role: 'user', content: '<image>What kind of bird is this?' };
const image = (...grid: ImageGrid) => ({ grid });
const IMAGE = image(1, 4, 6);

/** Ids of the fixture's own special tokens. */
const ID = { pad: 304, start: 305, end: 306, visionStart: 307, visionEnd: 308, image: 309, video: 310 };

let folder: string;
let processor: Processor;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'fr1-processor-'));
  processor = await openProcessor(FIXTURE);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A copy of the fixture with files changed (an object or text) or removed (null). */
function variant(files: Record<string, object | string | null>): string {
  const dir = mkdtempSync(join(folder, 'variant-'));
  cpSync(FIXTURE, dir, { recursive: true });
  for (const [name, content] of Object.entries(files)) {
    if (content === null) rmSync(join(dir, name));
    else writeFileSync(join(dir, name), typeof content === 'string' ? content : JSON.stringify(content));
  }
  return dir;
}

const json = (name: string) => JSON.parse(readFileSync(join(FIXTURE, name), 'utf8'));

describe('openProcessor()', () => {
  it('takes token ids and image settings from the folder', () => {
    expect(processor.tokens).toEqual({
      image: ID.image,
      vision: [ID.image, ID.video, ID.visionStart, ID.visionEnd],
      eos: [ID.end, ID.pad],
      pad: ID.pad,
    });
    expect(processor.vocabSize).toBe(311);
    expect(processor.images).toMatchObject({ minPixels: 784, maxPixels: 12544, patchSize: 14 });
  });

  it('falls back to config.json and the tokenizer for eos and pad', async () => {
    const fromConfig = await openProcessor(variant({ 'generation_config.json': null }));
    expect(fromConfig.tokens).toMatchObject({ eos: [ID.end], pad: ID.pad });
    const config = json('config.json');
    config.text_config = { ...config.text_config, eos_token_id: undefined, pad_token_id: undefined };
    const fromTokenizer = await openProcessor(variant({ 'generation_config.json': {}, 'config.json': config }));
    expect(fromTokenizer.tokens).toMatchObject({ eos: [ID.end], pad: ID.pad });
  });

  it('finds the chat template and the image settings under all their names', async () => {
    const template = readFileSync(join(FIXTURE, 'chat_template.jinja'), 'utf8');
    const text = json('tokenizer_config.json');
    const layouts: Record<string, object | string | null>[] = [
      { 'chat_template.jinja': null, 'chat_template.json': { chat_template: template } },
      { 'chat_template.jinja': null, 'tokenizer_config.json': { ...text, chat_template: template } },
      {
        'chat_template.jinja': null,
        'tokenizer_config.json': { ...text, chat_template: [{ name: 'default', template }] },
      },
      {
        'tokenizer_config.json': { ...text, chat_template: 'not this one' },
        'preprocessor_config.json': null,
        'processor_config.json': { image_processor: json('preprocessor_config.json') },
      },
    ];
    for (const files of layouts) {
      const other = await openProcessor(variant(files));
      expect(other.images).toEqual(processor.images);
      expect(other.encodeChat([SYSTEM, QUESTION], [IMAGE], { addGenerationPrompt: true })).toEqual(
        processor.encodeChat([SYSTEM, QUESTION], [IMAGE], { addGenerationPrompt: true }),
      );
    }
  });

  it.each([
    ['no tokenizer', { 'tokenizer.json': null }, /tokenizer\.json cannot be read/],
    ['a tokenizer that is not JSON', { 'tokenizer.json': '{' }, /tokenizer\.json is not JSON/],
    ['a tokenizer without a model', { 'tokenizer.json': {} }, /tokenizer\.json cannot be used/],
    ['no chat template', { 'chat_template.jinja': null }, /has no chat template/],
    ['a chat template with an error', { 'chat_template.jinja': '{% for %}' }, /chat template .* cannot be used/],
    ['no image settings', { 'preprocessor_config.json': null }, /preprocessor_config\.json is missing/],
    [
      'image settings of another model',
      { 'preprocessor_config.json': { ...json('preprocessor_config.json'), patch_size: 16 } },
      /preprocessor_config\.json: patch_size is 16, the model of config\.json takes 14/,
    ],
    [
      'an eos token that does not exist',
      { 'generation_config.json': { eos_token_id: 900 } },
      /no token 900.*eos_token_id/,
    ],
  ])('refuses a folder with %s', async (_, files, message) => {
    const dir = variant(files as Record<string, object | string | null>);
    await expect(openProcessor(dir)).rejects.toMatchObject({ code: 'TOKENIZER_INVALID' });
    await expect(openProcessor(dir)).rejects.toThrow(message);
  });
});

describe('encode() and decode()', () => {
  it.each(golden.encode)('agree with tokenizers on $text', ({ text, ids }) => {
    expect([...processor.encode(text)]).toEqual(ids);
    expect(processor.decode(ids, { skipSpecialTokens: false })).toBe(text.normalize('NFC'));
  });

  it('leave special tokens out unless told otherwise', () => {
    const ids = [ID.start, ...processor.encode('red'), ID.end];
    expect(processor.decode(ids)).toBe('red');
    expect(processor.decode(Int32Array.from(ids), { skipSpecialTokens: false })).toBe('<|im_start|>red<|im_end|>');
  });
});

describe('encodeChat()', () => {
  it('has the tokens of transformers with each image expanded in place', () => {
    const { inputIds } = processor.encodeChat([SYSTEM, QUESTION], [IMAGE], { addGenerationPrompt: true });
    const at = golden.chat.ids.indexOf(ID.image);
    const expected = golden.chat.ids.toSpliced(at, 1, ...new Array<number>(6).fill(ID.image));
    expect([...inputIds]).toEqual(expected);
    const text = processor.decode(inputIds, { skipSpecialTokens: false });
    expect(text.replace(/(<\|image_pad\|>)+/, '<|image_pad|>')).toBe(golden.chat.prompt);
  });

  it('gives each of several images its own number of tokens', () => {
    const chat: ChatMessage[] = [
      { role: 'user', content: 'a<image>b<image>' },
      { role: 'assistant', content: 'literally <image>' },
      { role: 'user', content: '<image>c' },
    ];
    const images = [image(1, 2, 4), image(1, 6, 6), image(1, 2, 2)];
    const { inputIds } = processor.encodeChat(chat, images, { addGenerationPrompt: false });
    const runs = processor.decode(inputIds, { skipSpecialTokens: false }).match(/(<\|image_pad\|>)+/g)!;
    expect(runs.map((run) => run.length / '<|image_pad|>'.length)).toEqual([2, 9, 1]);
    expect(processor.decode(inputIds)).toContain('literally <image>');
  });

  it('fails when markers, image tokens and images do not fit', () => {
    const options = { addGenerationPrompt: true };
    const mismatch = expect.objectContaining({ code: 'IMAGE_COUNT_MISMATCH' });
    expect(() => processor.encodeChat([QUESTION], [], options)).toThrow(mismatch);
    expect(() => processor.encodeChat([QUESTION], [IMAGE, IMAGE], options)).toThrow('1 <image> markers for 2 images');
    const smuggled: ChatMessage = { role: 'user', content: 'see <|image_pad|>' };
    expect(() => processor.encodeChat([smuggled], [], options)).toThrow(mismatch);
  });
});

describe('encodeForTraining()', () => {
  it('learns the response, the end token and the line break after it', () => {
    const messages: ChatMessage[] = [SYSTEM, QUESTION, { role: 'assistant', content: golden.chat.response }];
    const { inputIds, labelStart } = processor.encodeForTraining(messages, [IMAGE]);
    const prompt = processor.encodeChat([SYSTEM, QUESTION], [IMAGE], { addGenerationPrompt: true }).inputIds;
    expect([...inputIds.subarray(0, labelStart)]).toEqual([...prompt]);
    expect([...inputIds.subarray(labelStart)]).toEqual(golden.chat.response_ids);
  });

  it('keeps the tokens of the prompt when the answer starts with a line break', () => {
    const { inputIds, labelStart } = processor.encodeForTraining(
      [QUESTION, { role: 'assistant', content: '\n\nred' }],
      [IMAGE],
    );
    const prompt = processor.encodeChat([QUESTION], [IMAGE], { addGenerationPrompt: true }).inputIds;
    expect([...inputIds.subarray(0, labelStart)]).toEqual([...prompt]);
  });

  it('fails without an answer, with an image token in it, and on a template that rewrites the prompt', async () => {
    expect(() => processor.encodeForTraining([QUESTION], [IMAGE])).toThrow(/must end with a message of the assistant/);
    const smuggled: ChatMessage = { role: 'assistant', content: '<|image_pad|>' };
    expect(() => processor.encodeForTraining([QUESTION, smuggled], [IMAGE])).toThrow(
      expect.objectContaining({ code: 'IMAGE_COUNT_MISMATCH' }),
    );
    const rewriting = await openProcessor(
      variant({ 'chat_template.jinja': '{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}' }),
    );
    expect(() => rewriting.encodeForTraining([SYSTEM, { role: 'assistant', content: 'red' }], [])).toThrow(
      /cannot be told apart/,
    );
  });

  it('passes on what a template complains about', async () => {
    const strict = await openProcessor(
      variant({ 'chat_template.jinja': '{{ raise_exception("roles must alternate") }}' }),
    );
    expect(() => strict.encodeChat([SYSTEM], [], { addGenerationPrompt: false })).toThrow(/roles must alternate/);
  });
});

/** The published tokenizer is 7 MB and not part of the repository; FR1_QWEN_PROCESSOR names a folder that holds it. */
const QWEN = process.env['FR1_QWEN_PROCESSOR'];
const isQwenPresent = QWEN !== undefined && existsSync(join(QWEN, 'tokenizer.json'));

describe.skipIf(!isQwenPresent)('with the tokenizer of Qwen2.5-VL (skipped unless FR1_QWEN_PROCESSOR is set)', () => {
  it('lays out an SFT example as specified', async () => {
    const qwen = await openProcessor(QWEN!);
    const { inputIds, labelStart } = qwen.encodeForTraining(
      [
        { role: 'system', content: 'S' },
        { role: 'user', content: '<image>Q' },
        { role: 'assistant', content: 'A' },
      ],
      [image(1, 2, 4)],
    );
    const [im_start, im_end, newline] = [151644, 151645, 198];
    const [system, user, assistant] = [8948, 872, 77091];
    // biome-ignore format: one line per message
    expect([...inputIds]).toEqual([
      im_start, system, newline, 50, im_end, newline,
      im_start, user, newline, 151652, 151655, 151655, 151653, 48, im_end, newline,
      im_start, assistant, newline,
      32, im_end, newline,
    ]);
    expect(labelStart).toBe(19);
    expect(qwen.tokens).toEqual({
      image: 151655,
      vision: [151655, 151656, 151652, 151653],
      eos: [151645, 151643],
      pad: 151643,
    });
    expect(qwen.vocabSize).toBe(151665);
  });

  it('adds the default system message', async () => {
    const qwen = await openProcessor(QWEN!);
    const { inputIds } = qwen.encodeChat([QUESTION], [IMAGE], { addGenerationPrompt: true });
    expect(qwen.decode(inputIds, { skipSpecialTokens: false })).toBe(
      `<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<|vision_start|>${'<|image_pad|>'.repeat(6)}<|vision_end|>What kind of bird is this?<|im_end|>\n<|im_start|>assistant\n`,
    );
  });
});
