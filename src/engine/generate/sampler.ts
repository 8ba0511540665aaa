/**
 * Draws tokens from a row of probabilities, or takes the likeliest from a row of logits. The graph has done before what
 * concerns all tokens alike: repetition penalty, bans, temperature, softmax. One uniform number per token, so that equal
 * streams give equal tokens however sequences are batched.
 */
import { Fr1Error } from '../../errors/fr1-error.ts';
import type { RandomStream } from '../random.ts';
import type { SamplingOptions } from './types.ts';

/** Added to the logits of banned tokens; their probability is then exactly 0. */
const BANNED = -1e9;

/** Above every token id; times 2^32 it is still below 2^53. */
const TOKEN_RANGE = 2 ** 21;

/** Positive floats are ordered like their bits: the exponent and four bits below it make 16 buckets per power of two. */
const BUCKET_SHIFT = 19;
const BUCKETS = 2 ** (32 - BUCKET_SHIFT);
const FIRST_NOT_FINITE = 0x7f800000 >>> BUCKET_SHIFT;

/** What the graph makes of the logits. */
export interface ScoreRule {
  /** Softmax of the logits, or the logits themselves where only the largest counts. */
  readonly kind: 'probabilities' | 'logits';
  /** Whether logits of tokens that were seen are penalised. */
  readonly hasPenalty: boolean;
  /** Whether a bias is added that bans tokens. */
  readonly hasBans: boolean;
  /** Whether the logits are multiplied by the inverse temperature. */
  readonly hasTemperature: boolean;
}

/** Equal rules have equal keys. */
export function ruleKey({ kind, hasPenalty, hasBans, hasTemperature }: ScoreRule): string {
  const parts = [hasPenalty && 'penalty', hasBans && 'bans', hasTemperature && 'temperature', kind];
  return parts.filter(Boolean).join('-');
}

export class Sampler {
  readonly rule: ScoreRule;
  /** Added to the logits [V]. */
  readonly logitBias: Float32Array;
  /** 1 / temperature; 1 for greedy sampling. */
  readonly inverseTemperature: number;
  /** Of logits of tokens that were seen. */
  readonly penalty: number;
  readonly #options: SamplingOptions;
  readonly #vocabulary: number;
  readonly #isRestricted: boolean;
  /** Probability and tokens in every bucket of a row. */
  readonly #mass = new Float64Array(BUCKETS);
  readonly #count = new Int32Array(BUCKETS);
  /** The tokens of the bucket that was sorted last, and how many they are. */
  readonly #keys: Float64Array;
  #sorted = 0;

  /** @throws SAMPLING_INVALID for options outside their ranges */
  constructor(options: SamplingOptions, vocabulary: number) {
    checkOptions(options, vocabulary);
    this.#options = options;
    this.#vocabulary = vocabulary;
    this.inverseTemperature = options.temperature === 0 ? 1 : 1 / options.temperature;
    this.penalty = options.repetitionPenalty;
    this.rule = {
      kind: options.temperature === 0 ? 'logits' : 'probabilities',
      hasPenalty: options.repetitionPenalty !== 1,
      hasBans: options.bannedTokenIds.length > 0,
      hasTemperature: this.inverseTemperature !== 1,
    };
    this.logitBias = new Float32Array(vocabulary);
    for (const id of options.bannedTokenIds) this.logitBias[id] = BANNED;
    this.#isRestricted = options.topP < 1 || (options.topK > 0 && options.topK < vocabulary);
    this.#keys = new Float64Array(this.#isRestricted ? vocabulary : 0);
  }

  /**
   * One token.
   *
   * @param row probabilities or logits, as `rule.kind` asks [V]
   * @throws SCORES_NOT_FINITE
   */
  pick(row: Float32Array, stream: RandomStream): number {
    if (this.rule.kind === 'logits') return argmax(row);
    const uniform = stream.uniform();
    return this.#isRestricted ? this.#pickRestricted(row, uniform) : walk(row, uniform);
  }

  /**
   * Draws among the top-k tokens, and of those the fewest that reach top-p of their mass, in falling order of probability
   * and the smaller id first where they are equal. Tokens are counted by buckets of similar probability, of which only
   * those are sorted in which a limit or the draw falls.
   */
  #pickRestricted(probabilities: Float32Array, uniform: number): number {
    const { topK, topP } = this.#options;
    const keepsAll = topK === 0 || topK >= this.#vocabulary;
    // All tokens below the floor together have less than top-p leaves out, so the likeliest reach it without them.
    const top = this.#fillBuckets(probabilities, keepsAll ? (1 - topP) / (2 * this.#vocabulary) : 0);
    // Top-p is a share of what top-k leaves, and of 1 where that is all.
    const mass = keepsAll ? 1 : this.#reach(probabilities, top, topK, Infinity).mass;
    const kept = this.#reach(probabilities, top, keepsAll ? Infinity : topK, topP < 1 ? topP * mass : Infinity);
    let left = uniform * kept.mass;
    let tokens = 0;
    for (let bucket = top; bucket >= 0; bucket--) {
      const count = this.#count[bucket]!;
      if (count === 0) continue;
      const isLast = tokens + count >= kept.tokens;
      if (!isLast && left >= this.#mass[bucket]!) {
        left -= this.#mass[bucket]!;
        tokens += count;
        continue;
      }
      const most = Math.min(count, kept.tokens - tokens);
      this.#sortBucket(probabilities, bucket);
      let token = 0;
      for (let i = 0; i < most; i++) {
        token = this.#sortedToken(i);
        left -= probabilities[token]!;
        if (left < 0) break;
      }
      return token;
    }
    throw notNumbers();
  }

  /** Sums up the tokens above `floor` by buckets; returns the highest that has one. */
  #fillBuckets(probabilities: Float32Array, floor: number): number {
    const mass = this.#mass.fill(0);
    const count = this.#count.fill(0);
    const bits = new Uint32Array(probabilities.buffer, probabilities.byteOffset, probabilities.length);
    for (let v = 0; v < bits.length; v++) {
      const probability = probabilities[v]!;
      if (probability <= floor) continue;
      const bucket = bits[v]! >>> BUCKET_SHIFT;
      count[bucket] = count[bucket]! + 1;
      mass[bucket] = mass[bucket]! + probability;
    }
    let top = BUCKETS - 1;
    while (top > 0 && count[top] === 0) top--;
    if (top >= FIRST_NOT_FINITE) throw notNumbers();
    return top;
  }

  /** The fewest likeliest tokens that are `limit` or have `wanted` together: how many, and their mass. */
  #reach(probabilities: Float32Array, top: number, limit: number, wanted: number): { tokens: number; mass: number } {
    let tokens = 0;
    let mass = 0;
    for (let bucket = top; bucket >= 0; bucket--) {
      const count = this.#count[bucket]!;
      if (count === 0) continue;
      if (tokens + count < limit && mass + this.#mass[bucket]! < wanted) {
        tokens += count;
        mass += this.#mass[bucket]!;
        continue;
      }
      this.#sortBucket(probabilities, bucket);
      for (let i = 0; i < count; i++) {
        if (tokens > 0 && (tokens >= limit || mass >= wanted)) break;
        mass += probabilities[this.#sortedToken(i)]!;
        tokens++;
      }
      if (tokens >= limit || mass >= wanted) break;
    }
    return { tokens, mass };
  }

  /** Puts the tokens of a bucket into `#keys`, rising in probability; one number carries both and needs no comparator. */
  #sortBucket(probabilities: Float32Array, bucket: number): void {
    const bits = new Uint32Array(probabilities.buffer, probabilities.byteOffset, probabilities.length);
    let found = 0;
    for (let v = 0; v < bits.length; v++) {
      if (bits[v]! >>> BUCKET_SHIFT === bucket) {
        this.#keys[found++] = bits[v]! * TOKEN_RANGE + (TOKEN_RANGE - 1 - v);
      }
    }
    this.#keys.subarray(0, found).sort();
    this.#sorted = found;
  }

  /** The i-th likeliest of the sorted bucket. */
  #sortedToken(i: number): number {
    return TOKEN_RANGE - 1 - (this.#keys[this.#sorted - 1 - i]! % TOKEN_RANGE);
  }
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
