/** How alike two classes are: larger is nearer. What a figure means depends on the kind; only its order is used. */
import type { SourceClass } from './source.ts';

export type ClassSimilarity = (a: string, b: string) => number;

/** Words that two names share, per word of the longer one, in [0, 1]. */
export function nameSimilarity(a: string, b: string): number {
  const [first, second] = [wordsOf(a), wordsOf(b)];
  const shared = [...first].filter((word) => second.has(word)).length;
  return shared / Math.max(first.size, second.size, 1);
}

function wordsOf(name: string): Set<string> {
  return new Set(
    name
      .toLowerCase()
      .split(/[\s_/-]+/)
      .filter((word) => word !== ''),
  );
}

/** Groups that two classes share, counted from the coarsest; names decide among equals. */
export function groupSimilarity(classes: readonly SourceClass[]): ClassSimilarity {
  const groupsOf = new Map(classes.map(({ label, groups }) => [label, groups]));
  return (a, b) => {
    const [first, second] = [groupsOf.get(a) ?? [], groupsOf.get(b) ?? []];
    let shared = 0;
    while (shared < first.length && first[shared] === second[shared]) shared++;
    return shared + nameSimilarity(a, b) / 2;
  };
}

/** Cosine of the classes' mean vectors. Classes without a vector are like no other. */
export function vectorSimilarity(vectors: ReadonlyMap<string, Float32Array>): ClassSimilarity {
  return (a, b) => {
    const [first, second] = [vectors.get(a), vectors.get(b)];
    return first === undefined || second === undefined ? -1 : cosine(first, second);
  };
}

/** x . y / (|x| |y|); 0 where a vector is zero. */
export function cosine(x: Float32Array, y: Float32Array): number {
  let dot = 0;
  let xx = 0;
  let yy = 0;
  for (let i = 0; i < x.length; i++) {
    dot += x[i]! * y[i]!;
    xx += x[i]! ** 2;
    yy += y[i]! ** 2;
  }
  return xx === 0 || yy === 0 ? 0 : dot / Math.sqrt(xx * yy);
}
