/**
 * Chats with images to token ids and back, from the tokenizer, chat template and processor files of a model folder.
 * Nothing is fetched, and no token id is known beforehand: all come from the folder.
 *
 * The template writes one image token per image; it is repeated here once per merged unit of the image's grid.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { Tokenizer } from '@huggingface/tokenizers';
import { Fr1Error } from '../../../errors/fr1-error.ts';
import { isRecord, parseConfig, type Qwen25VLConfig } from './config.ts';
import { type ImageSettings, parseImageSettings } from './image-processor.ts';
import { ignoredSampling, type SamplingDefaults, samplingDefaults } from './sampling-defaults.ts';
import { type ImageGrid, imageTokens } from './vision-layout.ts';

/** Marks the place of an image in a user's text. */
export const IMAGE_MARKER = '<image>';

/** What the user says about one image, which comes first unless the text itself places it. */
export function aboutImage(text: string): string {
  return text.includes(IMAGE_MARKER) ? text : `${IMAGE_MARKER}${text}`;
}

export interface ChatMessage {
  readonly role: 'system' | 'user' | 'assistant';
  /** In the messages of the user, each {@link IMAGE_MARKER} stands for the next image. */
  readonly content: string;
}

/** What encoding needs to know of an image; a ProcessedImage is one. */
export interface ImagePlace {
  readonly grid: ImageGrid;
}

export interface EncodedChat {
  readonly inputIds: Int32Array;
}

export interface EncodedExample extends EncodedChat {
  /** First token to be learnt: the last message and what the template puts after it. */
  readonly labelStart: number;
}

export interface TokenIds {
  readonly image: number;
  /** Image, video and vision start and end tokens: what a model must not write. */
  readonly vision: readonly number[];
  /** Tokens that end a generated text. */
  readonly eos: readonly number[];
  readonly pad: number;
}

export interface Processor {
  readonly dir: string;
  readonly config: Qwen25VLConfig;
  readonly images: ImageSettings;
  readonly tokens: TokenIds;
  /** Ids that the tokenizer knows are below this; the model's vocabulary may be padded beyond. */
  readonly vocabSize: number;
  /** Tokens that no answer may have: those of images, and the padding of the model's vocabulary. */
  readonly bannedTokens: readonly number[];
  /** How generation_config.json says that the model answers. */
  readonly sampling: SamplingDefaults;
  /** What it asks for besides and does not get. */
  readonly ignoredSampling: readonly string[];
  /** Token ids of plain text; special tokens in it are recognised, none are added. */
  encode(text: string): Int32Array;
  /**
   * The prompt of a chat.
   *
   * @throws IMAGE_COUNT_MISMATCH when markers and images do not fit
   * @throws TOKENIZER_INVALID when the chat template refuses the messages
   */
  encodeChat(
    messages: readonly ChatMessage[],
    images: readonly ImagePlace[],
    options: { readonly addGenerationPrompt: boolean },
  ): EncodedChat;
  /**
   * A chat that ends with the answer to learn. Prompt and answer are tokenised apart, so that the prompt has the tokens
   * that it has when the model generates.
   *
   * @throws IMAGE_COUNT_MISMATCH when markers and images do not fit
   * @throws TOKENIZER_INVALID when the last message is not the assistant's, or the template rewrites earlier text
   */
  encodeForTraining(messages: readonly ChatMessage[], images: readonly ImagePlace[]): EncodedExample;
  /** @param options.skipSpecialTokens @default true */
  decode(ids: ArrayLike<number>, options?: { readonly skipSpecialTokens?: boolean }): string;
}

/**
 * Opens the tokenizer of a model folder.
 *
 * @throws TOKENIZER_INVALID for missing or contradicting files
 * @throws MODEL_CONFIG_INVALID
 */
export async function openProcessor(dir: string): Promise<Processor> {
  const folder = resolve(dir);
  const files = readFiles(folder);
  const config = parseConfig(files.config, join(folder, 'config.json'));
  const tokenizer = await makeTokenizer(folder, files);
  const tokens = tokenIds(folder, config, files, tokenizer);
  const render = await makeTemplate(folder, files);
  const decodeOptions = {
    clean_up_tokenization_spaces: files.tokenizerConfig['clean_up_tokenization_spaces'] === true,
  };

  const vocabSize = [...tokenizer.get_vocab(true).values()].reduce((highest, id) => Math.max(highest, id), -1) + 1;
  const padding = Array.from({ length: Math.max(0, config.text.vocabSize - vocabSize) }, (_, i) => vocabSize + i);

  function encode(text: string): number[] {
    return text === '' ? [] : tokenizer.encode(text, { add_special_tokens: false }).ids;
  }

  /** Token ids with the image token repeated as often as each image needs. */
  function expand(ids: readonly number[], images: readonly ImagePlace[]): Int32Array {
    const places = ids.reduce((count, id) => count + (id === tokens.image ? 1 : 0), 0);
    if (places !== images.length) {
      throw new Fr1Error(
        'IMAGE_COUNT_MISMATCH',
        `the chat has ${places} image tokens for ${images.length} images; the text itself must not contain image tokens`,
      );
    }
    const counts = images.map(({ grid }) => imageTokens(grid, config));
    const expanded = new Int32Array(ids.length - places + counts.reduce((sum, count) => sum + count, 0));
    let at = 0;
    let image = 0;
    for (const id of ids) {
      const count = id === tokens.image ? counts[image++]! : 1;
      expanded.fill(id, at, at + count);
      at += count;
    }
    return expanded;
  }

  function checkMarkers(messages: readonly ChatMessage[], images: readonly ImagePlace[]): void {
    const markers = messages.reduce((sum, message) => sum + markersOf(message), 0);
    if (markers !== images.length) {
      throw new Fr1Error(
        'IMAGE_COUNT_MISMATCH',
        `the chat has ${markers} ${IMAGE_MARKER} markers for ${images.length} images`,
      );
    }
  }

  return {
    dir: folder,
    config,
    images: imageSettings(files.images, config),
    tokens,
    vocabSize,
    bannedTokens: [...tokens.vision, ...padding],
    sampling: samplingDefaults(folder, files.generationConfig),
    ignoredSampling: ignoredSampling(files.generationConfig),
    encode: (text) => Int32Array.from(encode(text)),
    encodeChat(messages, images, { addGenerationPrompt }) {
      checkMarkers(messages, images);
      return { inputIds: expand(encode(render(messages, addGenerationPrompt)), images) };
    },
    encodeForTraining(messages, images) {
      checkMarkers(messages, images);
      if (messages[messages.length - 1]?.role !== 'assistant') {
        throw new Fr1Error('TOKENIZER_INVALID', 'a training example must end with a message of the assistant');
      }
      const prompt = render(messages.slice(0, -1), true);
      const whole = render(messages, false);
      if (!whole.startsWith(prompt)) {
        throw new Fr1Error(
          'TOKENIZER_INVALID',
          `the chat template of ${folder} changes earlier messages when an answer follows, so prompt and answer cannot be told apart`,
        );
      }
      const promptIds = expand(encode(prompt), images);
      const answerIds = expand(encode(whole.slice(prompt.length)), []);
      const inputIds = new Int32Array(promptIds.length + answerIds.length);
      inputIds.set(promptIds);
      inputIds.set(answerIds, promptIds.length);
      return { inputIds, labelStart: promptIds.length };
    },
    decode(ids, options = {}) {
      if (ids.length === 0) return '';
      return tokenizer.decode(Array.from(ids), {
        skip_special_tokens: options.skipSpecialTokens ?? true,
        ...decodeOptions,
      });
    },
  };
}

/** @throws TOKENIZER_INVALID also where patches would not be those that the model takes */
function imageSettings({ path, json }: ProcessorFiles['images'], { vision }: Qwen25VLConfig): ImageSettings {
  const settings = parseImageSettings(json, path);
  for (const [key, own, model] of [
    ['patch_size', settings.patchSize, vision.patchSize],
    ['temporal_patch_size', settings.temporalPatchSize, vision.temporalPatchSize],
    ['merge_size', settings.mergeSize, vision.spatialMergeSize],
  ] as const) {
    if (own !== model) {
      throw new Fr1Error('TOKENIZER_INVALID', `${path}: ${key} is ${own}, the model of config.json takes ${model}`);
    }
  }
  return settings;
}

function markersOf({ role, content }: ChatMessage): number {
  return role === 'user' ? content.split(IMAGE_MARKER).length - 1 : 0;
}

interface ProcessorFiles {
  readonly config: unknown;
  readonly generationConfig: Record<string, unknown>;
  readonly tokenizer: Record<string, unknown>;
  readonly tokenizerConfig: Record<string, unknown>;
  readonly images: { readonly path: string; readonly json: unknown };
  readonly template: string;
}

/** Reads the files under the names that the releases of transformers have given them. */
function readFiles(folder: string): ProcessorFiles {
  const path = (name: string) => join(folder, name);
  const tokenizerConfig = readOptional(path('tokenizer_config.json')) ?? {};
  return {
    config: readRequired(path('config.json')),
    generationConfig: readOptional(path('generation_config.json')) ?? {},
    tokenizer: readRequired(path('tokenizer.json')),
    tokenizerConfig,
    images: readImageSettings(path),
    template: readTemplate(folder, tokenizerConfig),
  };
}

function readImageSettings(path: (name: string) => string): ProcessorFiles['images'] {
  const own = readOptional(path('preprocessor_config.json'));
  if (own !== undefined) return { path: path('preprocessor_config.json'), json: own };
  const combined = readOptional(path('processor_config.json'));
  if (isRecord(combined?.['image_processor'])) {
    return { path: path('processor_config.json'), json: combined['image_processor'] };
  }
  throw new Fr1Error('TOKENIZER_INVALID', `${path('preprocessor_config.json')} is missing`);
}

/** A processor's template has precedence over the tokenizer's, which knows no images in early releases. */
function readTemplate(folder: string, tokenizerConfig: Record<string, unknown>): string {
  const jinja = join(folder, 'chat_template.jinja');
  if (existsSync(jinja)) return readText(jinja);
  for (const [file, json] of [
    ['chat_template.json', readOptional(join(folder, 'chat_template.json'))],
    ['tokenizer_config.json', tokenizerConfig],
  ] as const) {
    const template = json?.['chat_template'];
    if (typeof template === 'string') return template;
    if (Array.isArray(template)) {
      const named = template.find((entry) => isRecord(entry) && entry['name'] === 'default');
      if (isRecord(named) && typeof named['template'] === 'string') return named['template'];
    }
    if (template !== undefined && template !== null) {
      throw new Fr1Error('TOKENIZER_INVALID', `the chat_template in ${join(folder, file)} is no text`);
    }
  }
  throw new Fr1Error('TOKENIZER_INVALID', `${folder} has no chat template`, {
    hint: 'it is expected in chat_template.jinja, chat_template.json or tokenizer_config.json',
  });
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    throw new Fr1Error('TOKENIZER_INVALID', `${path} cannot be read: ${messageOf(cause)}`, {
      hint: 'a model folder holds the files of its tokenizer and processor too: copy them from the model that it was made of',
      cause,
    });
  }
}

function readRequired(path: string): Record<string, unknown> {
  const text = readText(path);
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new Fr1Error('TOKENIZER_INVALID', `${path} is not JSON: ${messageOf(cause)}`, { cause });
  }
  if (!isRecord(json)) throw new Fr1Error('TOKENIZER_INVALID', `${path} is not a JSON object`);
  return json;
}

function readOptional(path: string): Record<string, unknown> | undefined {
  return existsSync(path) ? readRequired(path) : undefined;
}

function messageOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}

async function makeTokenizer(folder: string, files: ProcessorFiles): Promise<Tokenizer> {
  const { Tokenizer } = await import('@huggingface/tokenizers');
  try {
    return new Tokenizer(files.tokenizer, files.tokenizerConfig);
  } catch (cause) {
    const path = join(folder, 'tokenizer.json');
    throw new Fr1Error('TOKENIZER_INVALID', `${path} cannot be used: ${messageOf(cause)}`, { cause });
  }
}

/** Text of a special token in tokenizer_config.json, which is a string or an object with one. */
function specialToken(tokenizerConfig: Record<string, unknown>, key: string): string | undefined {
  const token = tokenizerConfig[key];
  if (typeof token === 'string') return token;
  return isRecord(token) && typeof token['content'] === 'string' ? token['content'] : undefined;
}

function tokenIds(
  folder: string,
  config: Qwen25VLConfig,
  { generationConfig, tokenizerConfig }: ProcessorFiles,
  tokenizer: Tokenizer,
): TokenIds {
  const fromTokenizer = (key: string) => {
    const token = specialToken(tokenizerConfig, key);
    return token === undefined ? undefined : tokenizer.token_to_id(token);
  };
  const listed = (value: unknown) =>
    (Array.isArray(value) ? value : [value]).filter((id): id is number => Number.isSafeInteger(id));

  let eos = listed(generationConfig['eos_token_id']);
  if (eos.length === 0) eos = [...config.eosTokenIds];
  if (eos.length === 0) eos = listed(fromTokenizer('eos_token'));
  if (eos.length === 0) throw new Fr1Error('TOKENIZER_INVALID', `no file of ${folder} names an eos token`);
  const pad = listed(generationConfig['pad_token_id'])[0] ?? config.padTokenId ?? fromTokenizer('pad_token') ?? eos[0]!;

  const vision = [config.imageTokenId, config.videoTokenId, config.visionStartTokenId, config.visionEndTokenId];
  for (const [name, id] of [
    ['image_token_id', config.imageTokenId],
    ['pad_token_id', pad],
    ...eos.map((id) => ['eos_token_id', id] as const),
  ] as const) {
    if (tokenizer.id_to_token(id) === undefined) {
      throw new Fr1Error('TOKENIZER_INVALID', `${folder}: the tokenizer has no token ${id}, which is the ${name}`);
    }
  }
  return { image: config.imageTokenId, vision: [...new Set(vision)], eos: [...new Set(eos)], pad };
}

/** The chat template as a function of the messages; user messages with images become lists of parts. */
async function makeTemplate(
  folder: string,
  { template, tokenizerConfig }: ProcessorFiles,
): Promise<(messages: readonly ChatMessage[], addGenerationPrompt: boolean) => string> {
  const { Template } = await import('@huggingface/jinja');
  const special: Record<string, string> = {};
  for (const key of ['bos_token', 'eos_token', 'pad_token', 'unk_token']) {
    const token = specialToken(tokenizerConfig, key);
    if (token !== undefined) special[key] = token;
  }
  try {
    const compiled = new Template(template);
    return (messages, addGenerationPrompt) => {
      try {
        return compiled.render({
          ...special,
          messages: messages.map(templateMessage),
          add_generation_prompt: addGenerationPrompt,
        });
      } catch (cause) {
        throw new Fr1Error('TOKENIZER_INVALID', `the chat template of ${folder} failed: ${messageOf(cause)}`, {
          cause,
        });
      }
    };
  } catch (cause) {
    throw new Fr1Error('TOKENIZER_INVALID', `the chat template of ${folder} cannot be used: ${messageOf(cause)}`, {
      cause,
    });
  }
}

function templateMessage(message: ChatMessage): { role: string; content: string | { type: string; text?: string }[] } {
  const { role, content } = message;
  if (markersOf(message) === 0) return { role, content };
  const parts = content
    .split(IMAGE_MARKER)
    .flatMap((text, i) => [...(i === 0 ? [] : [{ type: 'image' }]), ...(text === '' ? [] : [{ type: 'text', text }])]);
  return { role, content: parts };
}
