/**
 * Draws tokens on the host from the probabilities (or, with a repetition penalty, the logits) of one step. One uniform
 * number per token, so that equal streams give equal tokens however sequences are batched.
 */
import { Fr1Error } from '../../errors/fr1-error.ts';
import type { RandomStream } from '../random.ts';
import type { SamplingOptions } from './types.ts';

/** Added to the logits of banned tokens; their probability is then exactly 0. */
const BANNED = -1e9;

/** Likeliest tokens found by repeated search before all candidates are sorted. */
const MAX_SEARCHES = 24;

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
  readonly #kept: Int32Array;

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
    this.#kept = new Int32Array(vocabulary);
  }

  /**
   * One token.
   *
   * @param row probabilities or logits, as `scores` asks [V]
   * @param seen tokens of the prompt and the completion so far; read only with a repetition penalty
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
    const limit = topK > 0 ? Math.min(topK, this.#vocabulary) : this.#vocabulary;
    let count = this.#likeliest(probabilities, limit, topK > 0 ? 1 : topP);
    const kept = this.#kept;
    let mass = 0;
    for (let i = 0; i < count; i++) mass += this.#probability[i]!;
    if (topP < 1) {
      const wanted = topP * (topK > 0 ? mass : 1);
      mass = 0;
      let most = 0;
      while (most < count && (most === 0 || mass < wanted)) mass += this.#probability[most++]!;
      count = most;
    }
    let left = uniform * mass;
    for (let i = 0; i < count; i++) {
      left -= this.#probability[i]!;
      if (left < 0) return kept[i]!;
    }
    return kept[count - 1]!;
  }

  /** Probabilities of the tokens in `#kept`. */
  #probability = new Float64Array(64);

  /** Fills `#kept` with the likeliest tokens, falling, until there are `limit` or they reach `mass`; returns how many. */
  #likeliest(probabilities: Float32Array, limit: number, mass: number): number {
    const kept = this.#kept;
    const rest = this.#scratch;
    if (rest !== probabilities) rest.set(probabilities);
    let count = 0;
    let sum = 0;
    while (count < limit && (count === 0 || sum < mass) && count < MAX_SEARCHES) {
      const best = argmax(rest);
      const probability = rest[best]!;
      if (probability <= 0 && count > 0) return count;
      kept[count] = best;
      this.#probability[count] = probability;
      sum += probability;
      rest[best] = -1;
      count++;
    }
    if (count >= limit || (count > 0 && sum >= mass)) return count;
    // Tokens this unlikely add up to less than what top-p leaves out.
    const floor = limit < this.#vocabulary ? 0 : (1 - mass) / this.#vocabulary;
    let candidates = 0;
    const found = new Int32Array(this.#vocabulary);
    for (let v = 0; v < rest.length; v++) if (rest[v]! > floor) found[candidates++] = v;
    const sorted = found.subarray(0, candidates).sort((a, b) => rest[b]! - rest[a]! || a - b);
    if (this.#probability.length < this.#vocabulary) {
      const longer = new Float64Array(this.#vocabulary);
      longer.set(this.#probability);
      this.#probability = longer;
    }
    for (let i = 0; i < sorted.length && count < limit && sum < mass; i++) {
      kept[count] = sorted[i]!;
      this.#probability[count] = rest[sorted[i]!]!;
      sum += this.#probability[count]!;
      count++;
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
  // The sum is 1 up to rounding.
  return last;
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
