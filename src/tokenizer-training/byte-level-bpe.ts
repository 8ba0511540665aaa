/**
 * A small trainer for byte-level byte-pair encodings with Qwen2's pre-tokeniser. It knows no file format; see
 * tokenizer-files.ts.
 *
 * @see Sennrich et al. 2016, arXiv:1508.07909; Radford et al. 2019 (bytes as the alphabet)
 */

/** Splits text into words before merging; the regular expression of Qwen2's tokenizer.json. */
export const PRE_TOKENISER =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

// NOTE: JavaScript of Node 20 has no inline flags, so the contractions spell out both cases.
const SPLIT =
  /'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+/gu;

/** The printable character that stands for each byte, as in GPT-2's alphabet. */
export const BYTE_CHARACTERS: readonly string[] = (() => {
  const isPrintable = (byte: number) =>
    (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || (byte >= 174 && byte <= 255);
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(isPrintable(byte) ? byte : next++));
})();

export interface BytePairEncoding {
  /** Token text (in byte characters) by id: 256 bytes, then one per merge. */
  readonly tokens: readonly string[];
  /** Pairs in order of priority. */
  readonly merges: readonly (readonly [string, string])[];
}

export interface TrainingOptions {
  readonly texts: Iterable<string>;
  /** Strings that become one token each, e.g. ` red`; each must be a single word to the pre-tokeniser. */
  readonly wholeWords: readonly string[];
  /** Number of tokens, the 256 bytes included. */
  readonly size: number;
}

export function splitWords(text: string): string[] {
  return text.normalize('NFC').match(SPLIT) ?? [];
}

function byteCharacters(word: string): string[] {
  return Array.from(new TextEncoder().encode(word), (byte) => BYTE_CHARACTERS[byte]!);
}

function pairKey(left: string, right: string): string {
  return `${left} ${right}`;
}

/** Joins every occurrence of a pair, left to right. */
function join(pieces: readonly string[], left: string, right: string): string[] {
  const joined: string[] = [];
  for (let i = 0; i < pieces.length; i++) {
    if (pieces[i] === left && pieces[i + 1] === right) {
      joined.push(left + right);
      i++;
    } else joined.push(pieces[i]!);
  }
  return joined;
}

/** Pieces of one word under merges given by priority. */
export function mergeWord(word: string, ranks: ReadonlyMap<string, number>): string[] {
  let pieces = byteCharacters(word);
  for (;;) {
    let best = Number.POSITIVE_INFINITY;
    let at = -1;
    for (let i = 0; i + 1 < pieces.length; i++) {
      const rank = ranks.get(pairKey(pieces[i]!, pieces[i + 1]!)) ?? Number.POSITIVE_INFINITY;
      if (rank < best) {
        best = rank;
        at = i;
      }
    }
    if (at < 0) return pieces;
    pieces = join(pieces, pieces[at]!, pieces[at + 1]!);
  }
}

/**
 * Learns merges: first those that make each whole word one token, then the most frequent pair again and again (ties: the
 * pair that sorts first). Later merges never undo earlier ones, so whole words stay whole.
 *
 * @throws RangeError when `size` has no room for the whole words
 */
export function trainBytePairEncoding({ texts, wholeWords, size }: TrainingOptions): BytePairEncoding {
  const ranks = new Map<string, number>();
  const merges: [string, string][] = [];
  const tokens = [...BYTE_CHARACTERS];
  const known = new Set(tokens);
  const add = (left: string, right: string) => {
    ranks.set(pairKey(left, right), merges.length);
    merges.push([left, right]);
    if (!known.has(left + right)) {
      known.add(left + right);
      tokens.push(left + right);
    }
  };
  for (const word of wholeWords) {
    if (splitWords(word).length !== 1) throw new RangeError(`"${word}" is not one word to the pre-tokeniser`);
    for (let pieces = mergeWord(word, ranks); pieces.length > 1; pieces = mergeWord(word, ranks)) {
      add(pieces[0]!, pieces[1]!);
    }
  }
  if (tokens.length > size)
    throw new RangeError(`${tokens.length} tokens are needed for the whole words, ${size} given`);

  const counts = new Map<string, number>();
  for (const text of texts) for (const word of splitWords(text)) counts.set(word, (counts.get(word) ?? 0) + 1);
  const words = [...counts].map(([word, count]) => ({ pieces: mergeWord(word, ranks), count }));
  while (tokens.length < size) {
    const pairs = new Map<string, number>();
    for (const { pieces, count } of words) {
      for (let i = 0; i + 1 < pieces.length; i++) {
        const key = pairKey(pieces[i]!, pieces[i + 1]!);
        pairs.set(key, (pairs.get(key) ?? 0) + count);
      }
    }
    let best = '';
    let bestCount = 0;
    for (const [key, count] of pairs) {
      if (count > bestCount || (count === bestCount && key < best)) {
        best = key;
        bestCount = count;
      }
    }
    if (bestCount === 0) break;
    const [left, right] = best.split(' ') as [string, string];
    add(left, right);
    for (const word of words) if (word.pieces.length > 1) word.pieces = join(word.pieces, left, right);
  }
  return { tokens, merges };
}
