/** Writes a byte-level encoding as the tokenizer files that transformers and transformers.js read for Qwen2 models. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type BytePairEncoding, PRE_TOKENISER } from './byte-level-bpe.ts';

export interface AddedToken {
  readonly content: string;
  /** Special tokens are left out when text is decoded. */
  readonly special: boolean;
}

/** Qwen2.5-VL's control tokens that fr1 uses, in the order of their ids. */
export const QWEN_SPECIAL_TOKENS = [
  '<|endoftext|>',
  '<|im_start|>',
  '<|im_end|>',
  '<|vision_start|>',
  '<|vision_end|>',
  '<|image_pad|>',
  '<|video_pad|>',
] as const;

/** ChatML without a default system message; an image stands as one pad token between its two marks. */
export const CHAT_TEMPLATE =
  "{%- for message in messages -%}{{ '<|im_start|>' + message.role + '\\n' }}" +
  '{%- if message.content is string -%}{{ message.content }}{%- else -%}{%- for part in message.content -%}' +
  "{%- if part.type == 'image' or part.type == 'image_url' -%}{{ '<|vision_start|><|image_pad|><|vision_end|>' }}" +
  "{%- elif part.type == 'video' -%}{{ '<|vision_start|><|video_pad|><|vision_end|>' }}" +
  "{%- elif part.type == 'text' -%}{{ part.text }}{%- endif -%}{%- endfor -%}{%- endif -%}" +
  "{{ '<|im_end|>\\n' }}{%- endfor -%}" +
  "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}";

function tokenizerJson(encoding: BytePairEncoding, added: readonly AddedToken[]): unknown {
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: false, use_regex: false };
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: added.map(({ content, special }, i) => ({
      id: encoding.tokens.length + i,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special,
    })),
    normalizer: { type: 'NFC' },
    pre_tokenizer: {
      type: 'Sequence',
      pretokenizers: [
        { type: 'Split', pattern: { Regex: PRE_TOKENISER }, behavior: 'Isolated', invert: false },
        byteLevel,
      ],
    },
    post_processor: byteLevel,
    decoder: byteLevel,
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: '',
      end_of_word_suffix: '',
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: Object.fromEntries(encoding.tokens.map((token, id) => [token, id])),
      merges: encoding.merges,
    },
  };
}

function tokenizerConfigJson(encoding: BytePairEncoding, added: readonly AddedToken[], maxLength: number): unknown {
  return {
    tokenizer_class: 'Qwen2Tokenizer',
    add_prefix_space: false,
    add_bos_token: false,
    added_tokens_decoder: Object.fromEntries(
      added.map(({ content, special }, i) => [
        String(encoding.tokens.length + i),
        { content, single_word: false, lstrip: false, rstrip: false, normalized: false, special },
      ]),
    ),
    additional_special_tokens: added.filter((token) => token.special).map((token) => token.content),
    bos_token: null,
    eos_token: '<|im_end|>',
    pad_token: '<|endoftext|>',
    unk_token: null,
    clean_up_tokenization_spaces: false,
    errors: 'replace',
    split_special_tokens: false,
    model_max_length: maxLength,
    chat_template: CHAT_TEMPLATE,
  };
}

export interface TokenizerFilesOptions {
  readonly encoding: BytePairEncoding;
  /** Tokens after the encoding's own, {@link QWEN_SPECIAL_TOKENS} among them. */
  readonly added: readonly AddedToken[];
  /** Longest sequence of the model, in tokens. */
  readonly maxLength: number;
}

export async function writeJson(path: string, value: unknown): Promise<void> {
  await writeFile(path, `${JSON.stringify(value, null, 2)}\n`);
}

/** Writes tokenizer.json, tokenizer_config.json and chat_template.jinja into `directory`. */
export async function writeTokenizerFiles(directory: string, options: TokenizerFilesOptions): Promise<void> {
  const { encoding, added, maxLength } = options;
  await mkdir(directory, { recursive: true });
  await writeJson(join(directory, 'tokenizer.json'), tokenizerJson(encoding, added));
  await writeJson(join(directory, 'tokenizer_config.json'), tokenizerConfigJson(encoding, added, maxLength));
  await writeFile(join(directory, 'chat_template.jinja'), CHAT_TEMPLATE);
}
