/** Relative similarities of open-world answers: every text is embedded once. */
import type { SplitPrediction } from '../../src/artifacts/predictions.ts';
import type { TextEmbedder } from '../../src/engine/embedding/text-embedder.ts';
import { relativeSimilarity } from '../../src/methods/open-world.ts';

/** What is compared in one row. */
export interface ComparedTexts {
  /** null where there is nothing to compare. An empty text is embedded like any other, as in the released evaluation. */
  readonly text: string | null;
  readonly label: string;
  readonly standardWord: string;
}

const TEXTS_AT_ONCE = 64;

/**
 * Adds `similarity` to the open-world rows: 0 where there is no text to compare with the label.
 *
 * @param textsOf null for rows of the closed world
 */
export async function withSimilarities(
  rows: readonly SplitPrediction[],
  textsOf: (index: number) => ComparedTexts | null,
  embedder: TextEmbedder,
  signal: AbortSignal,
  onProgress: (done: number, total: number) => void,
): Promise<SplitPrediction[]> {
  const compared = rows.map((_, index) => textsOf(index));
  const texts = [
    ...new Set(compared.flatMap((row) => (row?.text == null ? [] : [row.text, row.label, row.standardWord]))),
  ];
  const vectors = new Map<string, Float32Array>();
  // Texts of similar length pad each other little.
  texts.sort((a, b) => a.length - b.length);
  for (let at = 0; at < texts.length; at += TEXTS_AT_ONCE) {
    signal.throwIfAborted();
    const part = texts.slice(at, at + TEXTS_AT_ONCE);
    const embedded = await embedder.embed(part);
    for (const [i, text] of part.entries()) vectors.set(text, embedded[i]!);
    onProgress(Math.min(at + TEXTS_AT_ONCE, texts.length), texts.length);
  }
  const cosine = async (a: string, b: string) => {
    const [left, right] = [vectors.get(a)!, vectors.get(b)!];
    return left.reduce((sum, value, i) => sum + value * right[i]!, 0);
  };
  return Promise.all(
    rows.map(async (row, index) => {
      const texts = compared[index];
      if (!texts) return row;
      if (texts.text === null) return { ...row, similarity: 0 };
      return { ...row, similarity: await relativeSimilarity(texts.text, texts.label, texts.standardWord, cosine) };
    }),
  );
}
