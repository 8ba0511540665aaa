/** Did-you-mean: the known word nearest to a wrong one. */
import { distance } from 'fastest-levenshtein';

/**
 * The known word that the wrong one most likely stands for, or `undefined` when none is near.
 *
 * Case and the separators `-`, `_` and space count for nothing; two letters in five may differ, at least one.
 */
export function nearest(wrong: string, known: Iterable<string>): string | undefined {
  const plain = simplify(wrong);
  let best: string | undefined;
  let bestEdits = Math.max(1, Math.round(plain.length * 0.4)) + 1;
  for (const word of known) {
    const candidate = simplify(word);
    const edits = distance(plain, candidate);
    // A word with every letter changed is another word.
    if (edits < bestEdits && edits < Math.max(candidate.length, 1)) {
      best = word;
      bestEdits = edits;
    }
  }
  return best;
}

/** A hint for a wrong word: the nearest known one, else the known ones, else nothing. */
export function didYouMean(wrong: string, known: readonly string[], whatTheyAre = 'known'): string | undefined {
  const best = nearest(wrong, known);
  if (best !== undefined) return `did you mean "${best}"?`;
  if (known.length === 0) return undefined;
  const shown = known.slice(0, 12).join(', ');
  return `${whatTheyAre}: ${shown}${known.length > 12 ? `, and ${known.length - 12} more` : ''}`;
}

function simplify(word: string): string {
  return word.toLowerCase().replace(/[-_ ]/g, '');
}
