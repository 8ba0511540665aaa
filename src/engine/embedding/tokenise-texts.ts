/**
 * Texts as the tensors of a text model. A text that is too long is cut before the tokens that end it, as in Python's transformers:
 * transformers.js cuts these off, and SigLIP and CLIP read what a text means at its last token.
 */
import type { Tensor } from './transformers-model.ts';

/** A tokenizer of transformers.js. */
export type TextTokenizer = (
  texts: string[],
  options: {
    readonly padding: boolean | 'max_length';
    readonly truncation: boolean;
    readonly max_length?: number;
    readonly return_tensor?: boolean;
  },
) => { readonly input_ids: unknown };

/** @param length that all texts are padded to. @default the longest text's, at most what the model takes */
export function tokeniseTexts(
  tokenizer: TextTokenizer,
  texts: readonly string[],
  length?: number,
): Record<string, Tensor> {
  const padding = length === undefined ? { padding: true } : { padding: 'max_length' as const, max_length: length };
  const inputs = tokenizer([...texts], { ...padding, truncation: true }) as unknown as Record<string, Tensor>;
  const { dims, data } = inputs['input_ids']!;
  const width = dims[1]!;
  const wholeOf = (all: readonly string[]) =>
    tokenizer([...all], { padding: false, truncation: false, return_tensor: false }).input_ids as number[][];
  const [none] = wholeOf(['']);
  for (const [row, whole] of wholeOf(texts).entries()) {
    if (whole.length <= width) continue;
    const end = endingOf(whole, none!);
    for (const [i, id] of end.entries()) (data as BigInt64Array)[(row + 1) * width - end.length + i] = BigInt(id);
  }
  return inputs;
}

/** The tokens after a text: those of an empty one without what stands before any. */
function endingOf(whole: readonly number[], none: readonly number[]): readonly number[] {
  const length = [...none].reverse().findIndex((id, i) => whole.at(-1 - i) !== id);
  return length < 0 ? none : none.slice(none.length - length);
}
