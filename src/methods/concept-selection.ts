/**
 * Which concepts tell about an image: the measure of the work whose selection Fine-R1 uses for its chains of thought. The
 * mutual information of image and concept is estimated by InfoNCE from texts alone, with captions standing for images.
 *
 * @see Shi et al. 2025, arXiv:2502.14044; temperature, threshold and least number are those of its released code
 */

export const CONCEPT_TEMPERATURE = 0.1;

/** Standard deviations above the mean from which on a concept is taken. */
const DEVIATIONS = 0.4;
const LEAST = 3;

/**
 * For each concept z, with own captions a, captions c of all other images and temperature T:
 *
 *   I(z) = sum_a log( e^(a.z/T) / (e^(a.z/T) + sum_c e^(c.z/T)) )
 *
 * concepts, own, others  vectors of length 1 and one width
 */
export function informationScores(
  concepts: readonly Float32Array[],
  own: readonly Float32Array[],
  others: readonly Float32Array[],
  temperature: number = CONCEPT_TEMPERATURE,
): number[] {
  return concepts.map((concept) => {
    const rest = logSumExp(others.map((caption) => dot(caption, concept) / temperature));
    return own.reduce((sum, caption) => sum - softplus(rest - dot(caption, concept) / temperature), 0);
  });
}

/** Places of the concepts that are taken, the best first: those well above the mean, three at least, `most` at most. */
export function informativeConcepts(scores: readonly number[], most: number): number[] {
  const count = scores.length;
  const mean = scores.reduce((sum, score) => sum + score, 0) / count;
  const deviation = Math.sqrt(scores.reduce((sum, score) => sum + (score - mean) ** 2, 0) / Math.max(1, count - 1));
  const above = scores.filter((score) => score > mean + DEVIATIONS * deviation).length;
  const places = scores.map((_, place) => place).sort((a, b) => scores[b]! - scores[a]!);
  return places.slice(0, Math.min(most, Math.max(LEAST, above)));
}

/** log(1 + e^x) */
function softplus(x: number): number {
  return Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
}

/** log sum e^x; -Infinity of nothing. */
function logSumExp(values: readonly number[]): number {
  const most = values.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  if (most === Number.NEGATIVE_INFINITY) return most;
  return most + Math.log(values.reduce((sum, value) => sum + Math.exp(value - most), 0));
}

function dot(a: Float32Array, b: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i]! * b[i]!;
  return sum;
}
