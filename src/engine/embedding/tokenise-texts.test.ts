import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { temporaryFolder } from '../../../test/helpers/temporary-folder.ts';
import { type TextTokenizer, tokeniseTexts } from './tokenise-texts.ts';

const [START, END, UNKNOWN, FIRST] = [0, 1, 2, 3];

/** A word is a token: w0 is 3, w1 is 4, ...; padded with the end as SigLIP's. */
async function wordTokenizer(template: readonly ('start' | 'text' | 'end')[]): Promise<TextTokenizer> {
  const folder = await temporaryFolder();
  const names = { '<s>': START, '</s>': END, '<unk>': UNKNOWN };
  const words = Object.fromEntries(Array.from({ length: 50 }, (_, i) => [`w${i}`, FIRST + i]));
  const special = (id: string) => ({ SpecialToken: { id, type_id: 0 } });
  const parts = { start: special('<s>'), text: { Sequence: { id: 'A', type_id: 0 } }, end: special('</s>') };
  const addedToken = ([content, id]: [string, number]) => ({
    ...{ id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: true },
  });
  const tokenizer = {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: Object.entries(names).map(addedToken),
    normalizer: null,
    pre_tokenizer: { type: 'Whitespace' },
    post_processor: {
      type: 'TemplateProcessing',
      single: template.map((part) => parts[part]),
      pair: [],
      special_tokens: {
        '<s>': { id: '<s>', ids: [START], tokens: ['<s>'] },
        '</s>': { id: '</s>', ids: [END], tokens: ['</s>'] },
      },
    },
    decoder: null,
    model: { type: 'WordLevel', vocab: { ...names, ...words }, unk_token: '<unk>' },
  };
  const settings = {
    ...{ tokenizer_class: 'PreTrainedTokenizerFast', eos_token: '</s>', unk_token: '<unk>', pad_token: '</s>' },
    model_max_length: 8,
  };
  writeFileSync(path.join(folder, 'tokenizer.json'), JSON.stringify(tokenizer));
  writeFileSync(path.join(folder, 'tokenizer_config.json'), JSON.stringify(settings));
  const { AutoTokenizer, env } = await import('@huggingface/transformers');
  env.localModelPath = path.dirname(folder);
  const opened = await AutoTokenizer.from_pretrained(path.basename(folder), { local_files_only: true });
  return opened as unknown as TextTokenizer;
}

const wordsOf = (count: number) => Array.from({ length: count }, (_, i) => `w${i}`).join(' ');

function idsOf(tokenizer: TextTokenizer, texts: readonly string[], length?: number): number[][] {
  const { dims, data } = tokeniseTexts(tokenizer, texts, length)['input_ids']!;
  const ids = Array.from(data as BigInt64Array, Number);
  return Array.from({ length: dims[0]! }, (_, row) => ids.slice(row * dims[1]!, (row + 1) * dims[1]!));
}

describe('tokeniseTexts()', () => {
  // [3..9, 1] is what Python's tokenizers 0.23 gives for the second text with a bound of 8 tokens.
  it('keeps the end of a text that is cut, and pads to the length', async () => {
    const tokenizer = await wordTokenizer(['text', 'end']);
    expect(idsOf(tokenizer, [wordsOf(2), wordsOf(20), wordsOf(7), ''], 8)).toEqual([
      [3, 4, END, END, END, END, END, END],
      [3, 4, 5, 6, 7, 8, 9, END],
      [3, 4, 5, 6, 7, 8, 9, END],
      new Array<number>(8).fill(END),
    ]);
  });

  it('cuts at what the model takes where no length is given, and keeps the start', async () => {
    const tokenizer = await wordTokenizer(['start', 'text', 'end']);
    expect(idsOf(tokenizer, [wordsOf(9), wordsOf(2)])).toEqual([
      [START, 3, 4, 5, 6, 7, 8, END],
      [START, 3, 4, END, END, END, END, END],
    ]);
  });

  it('cuts as it is without tokens that end a text', async () => {
    expect(idsOf(await wordTokenizer(['text']), [wordsOf(9)], 4)).toEqual([[3, 4, 5, 6]]);
  });
});
