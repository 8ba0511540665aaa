import { describe, expect, it } from 'vitest';
import { BYTE_CHARACTERS, mergeWord, splitWords, trainBytePairEncoding } from './byte-level-bpe.ts';

function ranksOf(merges: readonly (readonly [string, string])[]): Map<string, number> {
  return new Map(merges.map(([left, right], rank) => [`${left} ${right}`, rank]));
}

describe('splitWords()', () => {
  it('splits like the pre-tokeniser of Qwen2', () => {
    expect(splitWords("It's sub-categories: A, 12\n\nB.")).toEqual([
      'It',
      "'s",
      ' sub',
      '-categories',
      ':',
      ' A',
      ',',
      ' ',
      '1',
      '2',
      '\n\n',
      'B',
      '.',
    ]);
  });
});

describe('trainBytePairEncoding()', () => {
  it('merges the most frequent pair first', () => {
    const { merges, tokens } = trainBytePairEncoding({ texts: ['abab ab cd'], wholeWords: [], size: 258 });
    expect(merges[0]).toEqual(['a', 'b']);
    expect(tokens.slice(0, 256)).toEqual(BYTE_CHARACTERS);
    expect(tokens.length).toBe(258);
  });

  it('keeps whole words whole, also beside words that share parts and after frequent merges', () => {
    const wholeWords = ['is', 'analysis', ' analysis', ' this', 'thesis'];
    const { merges, tokens } = trainBytePairEncoding({ texts: ['sis sis sis ysis thesis'], wholeWords, size: 300 });
    for (const word of wholeWords) {
      const pieces = mergeWord(word, ranksOf(merges));
      expect(pieces).toEqual([word.replace(' ', 'Ġ')]);
      expect(tokens).toContain(pieces[0]);
    }
  });

  it('refuses a size without room for the whole words, and a whole word of two words', () => {
    expect(() => trainBytePairEncoding({ texts: [], wholeWords: ['abcdef'], size: 257 })).toThrow(RangeError);
    expect(() => trainBytePairEncoding({ texts: [], wholeWords: ['ab cd'], size: 300 })).toThrow(RangeError);
  });
});
