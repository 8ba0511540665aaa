/**
 * Draws tokens on the host from the probabilities (or, with a repetition penalty, the logits) of one step. One uniform
 * number per token, so that equal streams give equal tokens however sequences are batched.
 */
import { Fr1Error } from '../../errors/fr1-error.ts';
import type { RandomStream } from '../random.ts';
import type { SamplingOptions } from './types.ts';

/** Added to the logits of banned tokens; their probability is then exactly 0. */
const BANNED = -1e9;

/** Likeliest tokens found by repeated search before the other candidates are sorted. */
const MAX_SEARCHES = 8;

/** Above every token id; times 2^32 it is still below 2^53. */
const TOKEN_RANGE = 2 ** 21;

/** What the graph must put out for a sampler. */
export type Scores = 'probabilities' | 'logits';

export class Sampler {
  /** The repetition penalty differs by sequence, so it needs logits; else the graph makes probabilities. */
  readonly scores: Scores;
  /** Added to the logits [V]. */
  readonly logitBias: Float32Array;
  /** 1 / temperature; 1 for greedy sampling. */
  readonly inverseTemperature: number;
  readonly #options: SamplingOptions;
  readonly #vocabulary: number;
  readonly #isRestricted: boolean;
  /** Probabilities of a row that is changed while sampling [V]. */
  readonly #scratch: Float32Array;
  /** The same memory as integers. */
  readonly #bits: Uint32Array;
  readonly #keys: Float64Array;
  /** Likeliest tokens and their probabilities, falling. */
  readonly #kept: Int32Array;
  readonly #probability: Float64Array;

  /** @throws SAMPLING_INVALID for options outside their ranges */
  constructor(options: SamplingOptions, vocabulary: number) {
    checkOptions(options, vocabulary);
    this.#options = options;
    this.#vocabulary = vocabulary;
    this.scores = options.repetitionPenalty === 1 ? 'probabilities' : 'logits';
    this.inverseTemperature = options.temperature === 0 ? 1 : 1 / options.temperature;
    this.logitBias = new Float32Array(vocabulary);
    for (const id of options.bannedTokenIds) this.logitBias[id] = BANNED;
    this.#isRestricted = options.topP < 1 || (options.topK > 0 && options.topK < vocabulary);
    this.#scratch = new Float32Array(vocabulary);
    this.#bits = new Uint32Array(this.#scratch.buffer);
    this.#keys = new Float64Array(vocabulary);
    this.#kept = new Int32Array(vocabulary);
    this.#probability = new Float64Array(vocabulary);
  }

  /**
   * One token.
   *
   * @param row probabilities or logits, as `scores` asks [V]
   * @param seen tokens of the prompt and the completion so far; read only with a repetition penalty
   * @throws SCORES_NOT_FINITE
   */
  pick(row: Float32Array, stream: RandomStream, seen: Iterable<number>): number {
    const probabilities = this.scores === 'logits' ? this.#fromLogits(row, seen) : row;
    if (this.#options.temperature === 0) return argmax(probabilities);
    const uniform = stream.uniform();
    return this.#isRestricted ? this.#pickRestricted(probabilities, uniform) : walk(probabilities, uniform);
  }

  #fromLogits(logits: Float32Array, seen: Iterable<number>): Float32Array {
    const { repetitionPenalty } = this.#options;
    const scores = this.#scratch;
    scores.set(logits);
    for (const id of seen) scores[id] = penalise(logits[id]!, repetitionPenalty);
    let highest = Number.NEGATIVE_INFINITY;
    for (let v = 0; v < scores.length; v++) {
      const score = (scores[v]! + this.logitBias[v]!) * this.inverseTemperature;
      scores[v] = score;
      if (score > highest) highest = score;
    }
    let sum = 0;
    for (let v = 0; v < scores.length; v++) {
      const weight = Math.exp(scores[v]! - highest);
      scores[v] = weight;
      sum += weight;
    }
    for (let v = 0; v < scores.length; v++) scores[v] = scores[v]! / sum;
    return scores;
  }

  /** Draws among the top-k tokens, and of those the fewest that reach top-p of their mass. */
  #pickRestricted(probabilities: Float32Array, uniform: number): number {
    const { topK, topP } = this.#options;
    const keepsAll = topK === 0 || topK >= this.#vocabulary;
    // Top-p is a share of what top-k leaves, so the search may stop at it only where top-k leaves all.
    let count = this.#likeliest(probabilities, keepsAll ? this.#vocabulary : topK, keepsAll ? topP : 1);
    let mass = 0;
    for (let i = 0; i < count; i++) mass += this.#probability[i]!;
    if (topP < 1) {
      const wanted = keepsAll ? topP : topP * mass;
      mass = 0;
      let fewest = 0;
      while (fewest < count && (fewest === 0 || mass < wanted)) mass += this.#probability[fewest++]!;
      count = fewest;
    }
    let left = uniform * mass;
    for (let i = 0; i < count; i++) {
      left -= this.#probability[i]!;
      if (left < 0) return this.#kept[i]!;
    }
    return this.#kept[count - 1]!;
  }

  /**
   * Fills `#kept` and `#probability` with the likeliest tokens, falling, the smaller id first where they are equal, until
   * there are `limit` or they reach `mass`; returns how many.
   */
  #likeliest(probabilities: Float32Array, limit: number, mass: number): number {
    const kept = this.#kept;
    const found = this.#probability;
    const rest = this.#scratch;
    if (rest !== probabilities) rest.set(probabilities);
    let count = 0;
    let sum = 0;
    const isEnough = () => count === limit || (count > 0 && sum >= mass);
    for (let search = 0; search < MAX_SEARCHES && !isEnough(); search++) {
      const best = argmax(rest);
      const probability = rest[best]!;
      if (probability <= 0 && count > 0) return count;
      kept[count] = best;
      found[count++] = probability;
      sum += probability;
      rest[best] = 0;
    }
    if (isEnough()) return count;

    // Positive floats are ordered like their bits, so one number carries probability and token and sorts without a
    // comparison function. Tokens below the floor add up to less than what top-p leaves out.
    const floor = limit === this.#vocabulary ? (1 - mass) / this.#vocabulary : 0;
    let candidates = 0;
    for (let v = 0; v < rest.length; v++) {
      if (rest[v]! > floor) this.#keys[candidates++] = this.#bits[v]! * TOKEN_RANGE + (TOKEN_RANGE - 1 - v);
    }
    const sorted = this.#keys.subarray(0, candidates).sort();
    for (let i = candidates - 1; i >= 0 && !isEnough(); i--) {
      const token = TOKEN_RANGE - 1 - (sorted[i]! % TOKEN_RANGE);
      kept[count] = token;
      found[count++] = rest[token]!;
      sum += rest[token]!;
    }
    return count;
  }
}

/** transformers' RepetitionPenaltyLogitsProcessor for one logit. */
function penalise(logit: number, penalty: number): number {
  return logit < 0 ? logit * penalty : logit / penalty;
}

/** The first of the largest values. */
function argmax(row: Float32Array): number {
  let best = 0;
  let highest = row[0]!;
  for (let v = 1; v < row.length; v++) {
    if (row[v]! > highest) {
      highest = row[v]!;
      best = v;
    }
  }
  if (Number.isNaN(highest)) throw notNumbers();
  return best;
}

/** The token at which the cumulative probability passes `uniform`. */
function walk(probabilities: Float32Array, uniform: number): number {
  let left = uniform;
  let last = 0;
  for (let v = 0; v < probabilities.length; v++) {
    const probability = probabilities[v]!;
    if (probability <= 0) continue;
    left -= probability;
    if (left < 0) return v;
    last = v;
  }
  if (Number.isNaN(left)) throw notNumbers();
  // The sum is 1 up to rounding.
  return last;
}

/** Softmax turns one NaN or infinity into a row of NaN, so that any element of a row shows it. */
function notNumbers(): Fr1Error {
  return new Fr1Error('SCORES_NOT_FINITE', 'the model gave probabilities that are not numbers', {
    hint: 'training may have diverged; look at its losses, and try a lower learning rate',
  });
}

function checkOptions(options: SamplingOptions, vocabulary: number): void {
  const isCount = (value: number, least: number) => Number.isInteger(value) && value >= least;
  const isToken = (id: number) => isCount(id, 0) && id < vocabulary;
  const rules: readonly [name: keyof SamplingOptions, holds: boolean, rule: string][] = [
    ['maxNewTokens', isCount(options.maxNewTokens, 1), 'a whole number from 1'],
    ['temperature', options.temperature >= 0 && options.temperature < Infinity, 'a number from 0'],
    ['topP', options.topP > 0 && options.topP <= 1, 'above 0 and at most 1'],
    ['topK', isCount(options.topK, 0), 'a whole number from 0'],
    ['repetitionPenalty', options.repetitionPenalty > 0 && options.repetitionPenalty < Infinity, 'above 0'],
    ['bannedTokenIds', options.bannedTokenIds.every(isToken), `tokens below ${vocabulary}`],
    ['samplesPerRequest', isCount(options.samplesPerRequest, 1), 'a whole number from 1'],
  ];
  for (const [name, holds, rule] of rules) {
    if (!holds) throw new Fr1Error('SAMPLING_INVALID', `${name} is ${JSON.stringify(options[name])}, not ${rule}`);
  }
}
