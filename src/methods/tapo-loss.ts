/**
 * The TAPO actor loss in plain arrays, with its gradient written by hand: the readable reference against which the graph
 * version is tested.
 *
 * Per token, with l the log-probability of the sampled token under the policy in training, l_old before the update, l_neg
 * before the update with the negative image, A the advantage and M the response mask:
 *
 *   d = clamp(l - l_old, -20, 20)        r = e^d        r' = exp(clamp(d, ln(1 - clipLow), ln(1 + clipHigh)))
 *   p = max(-A r, -A r'), and where A < 0 at most -A dualClip
 *   u = clamp(l_neg - l, -20, 20)        k = clamp(e^u - u - 1, -10, 10)
 *   L = <p> - f g <k> + f h_neg <-l_neg> + f h_own <-l> + c_ref <k_ref> + c_im <-l over right responses>
 *
 * <z> is the masked mean. l_old and l_ref are constants, and so is l_neg, whose entropy then has a value but no gradient;
 * `negativeGradient` is what l_neg adds where training goes through the negative image.
 *
 * NOTE: <p>, <k> and <k_ref> follow `averaging`; the entropies and the imitation term are token means always.
 *
 * @see Fine-R1, arXiv:2602.07605, section 4.3; the ratio inside k is that of its released code, the inverse of the paper's
 */
import { Fr1Error } from '../errors/fr1-error.ts';
import { quantile } from './statistics.ts';

/** Estimators of a KL divergence from the policy's own samples, with x = l - l_other. */
export type KlEstimator =
  /** e^-x + x - 1, unbiased and never negative; called "low_var_kl" or "k3". */
  | 'k3'
  /** x */
  | 'k1'
  /** |x| */
  | 'abs'
  /** x^2 / 2 */
  | 'k2';

export interface NegativeKlTerm {
  /** g; the term is maximised. Fine-R1: 0.01 */
  readonly coefficient: number;
  readonly estimator: KlEstimator;
  /** Clamps each token's k to [0, clip]. */
  readonly clip?: number;
  /** Keeps, in each sequence, only the share of tokens with the greatest k; the mean's denominator stays. */
  readonly tokenMask?: { readonly topShare: number };
}

/** Every term is present with its settings or absent. */
export interface TapoLossConfig {
  readonly clipLow: number;
  readonly clipHigh: number;
  /** Bound on the ratio for negative advantages; more than 1. */
  readonly dualClip: number;
  readonly averaging: 'token' | 'sequence';
  /** Whether each micro-batch is a mean of its own, or the whole optimiser step is one mean. */
  readonly normalisation: 'micro' | 'step';
  readonly negativeKl?: NegativeKlTerm;
  /** Entropy of the policy on the negative image; a constant that is reported. */
  readonly negativeEntropy?: { readonly coefficient: number };
  /** Entropy of the policy on the response's own image; minimised. */
  readonly ownEntropy?: { readonly coefficient: number };
  readonly referenceKl?: { readonly coefficient: number; readonly estimator: KlEstimator };
  /** Likelihood of the responses whose accuracy exceeds `accuracyAbove`. */
  readonly imitation?: { readonly coefficient: number; readonly accuracyAbove: number };
}

/** The settings of Fine-R1's released scripts. */
export const FINE_R1_TAPO_LOSS: TapoLossConfig = {
  clipLow: 0.2,
  clipHigh: 0.28,
  dualClip: 3,
  averaging: 'token',
  normalisation: 'micro',
  negativeKl: { coefficient: 0.01, estimator: 'k3' },
  negativeEntropy: { coefficient: 0.03 },
  ownEntropy: { coefficient: 0.03 },
};

/** One micro-batch of B responses of at most T tokens; [B, T] arrays are row-major. */
export interface TapoBatch {
  readonly shape: readonly [sequences: number, tokens: number];
  /** [B, T] 1 for tokens of the response up to and including the end token, else 0. */
  readonly mask: ArrayLike<number>;
  /** [B] */
  readonly advantages: ArrayLike<number>;
  /** [B, T] */
  readonly logProbs: ArrayLike<number>;
  /** [B, T] */
  readonly oldLogProbs: ArrayLike<number>;
  /** [B, T] Needed by the terms on the negative image. */
  readonly negativeLogProbs?: ArrayLike<number>;
  /** [B, T] Needed by the reference KL. */
  readonly referenceLogProbs?: ArrayLike<number>;
  /** [B] Needed by the imitation term. */
  readonly accuracies?: ArrayLike<number>;
}

export interface TapoLoss {
  /** Each term before its coefficient; present where configured. */
  readonly terms: TapoTerms;
  readonly total: number;
  /** Of `total` with respect to `logProbs`, [B, T]. */
  readonly gradient: Float64Array;
  /** Of `total` with respect to `negativeLogProbs`, [B, T]: what training through the negative image adds. */
  readonly negativeGradient: Float64Array;
  readonly diagnostics: {
    /** <l_old - l>, an estimate of KL(old || new). */
    readonly approximateKl: number;
    /** <-l> under the configured averaging. */
    readonly entropy: number;
    /** Share of tokens where the clipped ratio decides. */
    readonly clippedShare: number;
    /** Share of tokens where the dual clip decides. */
    readonly dualClippedShare: number;
  };
}

export interface TapoTerms {
  readonly policy: number;
  readonly negativeKl?: number;
  readonly negativeEntropy?: number;
  readonly ownEntropy?: number;
  readonly referenceKl?: number;
  readonly imitation?: number;
}

/** What the means divide by. */
export interface TapoDenominators {
  /** Sum of the mask. */
  readonly tokens: number;
  readonly sequences: number;
  /** Sum of the mask over the responses that the imitation term takes. */
  readonly imitatedTokens: number;
}

const LOG_RATIO_BOUND = 20;
const K3_BOUND = 10;
const EPSILON = 1e-8;

/**
 * The loss of one micro-batch.
 *
 * scheduleFactor  f; scales the negative KL and both entropies, 1 without a schedule
 * denominators    those of the micro-batch itself unless given (see {@link tapoStepLoss})
 *
 * @throws SHAPE_MISMATCH when an array has the wrong length or a configured term lacks its input
 */
export function tapoLoss(
  batch: TapoBatch,
  config: TapoLossConfig,
  { scheduleFactor = 1, denominators = tapoDenominators([batch], config) }: TapoLossOptions = {},
): TapoLoss {
  checkShapes(batch);
  const { logProbs, oldLogProbs, mask } = batch;
  const [, T] = batch.shape;
  const size = mask.length;
  const tokenWeights = Float64Array.from(mask, (m) => m / (denominators.tokens + EPSILON));
  const weights = config.averaging === 'token' ? tokenWeights : sequenceWeights(batch, denominators.sequences);
  const gradient = new Float64Array(size);
  const negativeGradient = new Float64Array(size);
  const lowest = Math.log(1 - config.clipLow);
  const highest = Math.log(1 + config.clipHigh);

  let policy = 0;
  let approximateKl = 0;
  let entropy = 0;
  let clippedShare = 0;
  let dualClippedShare = 0;
  for (let i = 0; i < size; i++) {
    const advantage = batch.advantages[Math.floor(i / T)]!;
    const difference = logProbs[i]! - oldLogProbs[i]!;
    const d = clamp(difference, LOG_RATIO_BOUND);
    const free = -advantage * Math.exp(d);
    const clipped = -advantage * Math.exp(Math.min(Math.max(d, lowest), highest));
    const bound = -advantage * config.dualClip;
    const unbounded = Math.max(free, clipped);
    const isClipped = clipped > free;
    const isBounded = advantage < 0 && unbounded > bound;
    policy += (isBounded ? bound : unbounded) * weights[i]!;
    if (!isClipped && !isBounded && d === difference) gradient[i]! += free * weights[i]!;
    approximateKl -= d * tokenWeights[i]!;
    entropy -= logProbs[i]! * weights[i]!;
    if (isClipped) clippedShare += tokenWeights[i]!;
    if (isBounded) dualClippedShare += tokenWeights[i]!;
  }
  const terms: { -readonly [Term in keyof TapoTerms]: TapoTerms[Term] } = { policy };
  let total = policy;

  /** Adds a term whose tokens have the given values and slopes. */
  const add = (name: keyof TapoTerms, coefficient: number, tokenTerm: TokenTerm, termWeights: Float64Array) => {
    let value = 0;
    for (let i = 0; i < size; i++) {
      value += tokenTerm.values[i]! * termWeights[i]!;
      gradient[i]! += coefficient * tokenTerm.slopes[i]! * termWeights[i]!;
    }
    terms[name] = value;
    total += coefficient * value;
  };

  if (config.negativeKl !== undefined) {
    const negative = required(batch.negativeLogProbs, 'negativeKl', 'negativeLogProbs');
    const { coefficient, estimator, tokenMask, clip } = config.negativeKl;
    const k = klTerm(logProbs, negative, estimator);
    if (tokenMask !== undefined) maskTokens(k, batch, tokenMask.topShare);
    if (clip !== undefined) clipTokens(k, clip);
    add('negativeKl', -scheduleFactor * coefficient, k, weights);
    // k depends on the difference of both log-probabilities alone.
    for (let i = 0; i < size; i++) negativeGradient[i]! += scheduleFactor * coefficient * k.slopes[i]! * weights[i]!;
  }
  if (config.negativeEntropy !== undefined) {
    const negative = required(batch.negativeLogProbs, 'negativeEntropy', 'negativeLogProbs');
    const constant = { values: Float64Array.from(negative, (l) => -l), slopes: new Float64Array(size) };
    const coefficient = scheduleFactor * config.negativeEntropy.coefficient;
    add('negativeEntropy', coefficient, constant, tokenWeights);
    for (let i = 0; i < size; i++) negativeGradient[i]! -= coefficient * tokenWeights[i]!;
  }
  const surprise = { values: Float64Array.from(logProbs, (l) => -l), slopes: new Float64Array(size).fill(-1) };
  if (config.ownEntropy !== undefined) {
    add('ownEntropy', scheduleFactor * config.ownEntropy.coefficient, surprise, tokenWeights);
  }
  if (config.referenceKl !== undefined) {
    const reference = required(batch.referenceLogProbs, 'referenceKl', 'referenceLogProbs');
    const k = klTerm(logProbs, reference, config.referenceKl.estimator);
    add('referenceKl', config.referenceKl.coefficient, k, weights);
  }
  if (config.imitation !== undefined) {
    const imitated = imitatedMask(batch, config.imitation.accuracyAbove);
    const imitationWeights = imitated.map((m) => m / (denominators.imitatedTokens + EPSILON));
    add('imitation', config.imitation.coefficient, surprise, imitationWeights);
  }
  const diagnostics = { approximateKl, entropy, clippedShare, dualClippedShare };
  return { terms, total, gradient, negativeGradient, diagnostics };
}

export interface TapoLossOptions {
  readonly scheduleFactor?: number;
  readonly denominators?: TapoDenominators;
}

/**
 * The loss of one optimiser step over several micro-batches. `micro`: the mean of the micro-batches' losses, so that a
 * token of a long micro-batch weighs less. `step`: one mean over all tokens, whatever the split.
 *
 * -> the total, and the gradient for each micro-batch
 */
export function tapoStepLoss(
  batches: readonly TapoBatch[],
  config: TapoLossConfig,
  scheduleFactor = 1,
): { total: number; gradients: Float64Array[] } {
  const isMicro = config.normalisation === 'micro';
  const whole = isMicro ? {} : { denominators: tapoDenominators(batches, config) };
  const share = isMicro ? 1 / batches.length : 1;
  const losses = batches.map((batch) => tapoLoss(batch, config, { scheduleFactor, ...whole }));
  return {
    total: share * losses.reduce((sum, loss) => sum + loss.total, 0),
    gradients: losses.map((loss) => loss.gradient.map((slope) => share * slope)),
  };
}

/** What the means over all of these micro-batches together divide by. */
export function tapoDenominators(batches: readonly TapoBatch[], config: TapoLossConfig): TapoDenominators {
  let tokens = 0;
  let sequences = 0;
  let imitatedTokens = 0;
  for (const batch of batches) {
    sequences += batch.shape[0];
    for (let i = 0; i < batch.mask.length; i++) tokens += batch.mask[i]!;
    if (config.imitation !== undefined) {
      for (const m of imitatedMask(batch, config.imitation.accuracyAbove)) imitatedTokens += m;
    }
  }
  return { tokens, sequences, imitatedTokens };
}

/** Values of a term per token and their derivatives with respect to l. */
interface TokenTerm {
  readonly values: Float64Array;
  readonly slopes: Float64Array;
}

function klTerm(logProbs: ArrayLike<number>, others: ArrayLike<number>, estimator: KlEstimator): TokenTerm {
  const values = new Float64Array(logProbs.length);
  const slopes = new Float64Array(logProbs.length);
  for (let i = 0; i < values.length; i++) {
    [values[i], slopes[i]] = klToken(logProbs[i]! - others[i]!, estimator);
  }
  return { values, slopes };
}

/** The estimate and its derivative for x = l - l_other. */
function klToken(x: number, estimator: KlEstimator): [value: number, slope: number] {
  switch (estimator) {
    case 'k1':
      return [x, 1];
    case 'abs':
      return [Math.abs(x), Math.sign(x)];
    case 'k2':
      return [(x * x) / 2, x];
    case 'k3': {
      const u = clamp(-x, LOG_RATIO_BOUND);
      const k = Math.exp(u) - u - 1;
      return k > K3_BOUND ? [K3_BOUND, 0] : [k, 1 - Math.exp(u)];
    }
    default:
      return estimator satisfies never;
  }
}

/**
 * Which tokens of one answer a token mask keeps: 1 where the estimate of the divergence is at least the (1 - topShare)
 * quantile of the answer's, else 0. The choice has no gradient.
 *
 * logProbs, negativeLogProbs  [tokens]
 */
export function keptTokens(
  logProbs: ArrayLike<number>,
  negativeLogProbs: ArrayLike<number>,
  { estimator, topShare }: { readonly estimator: KlEstimator; readonly topShare: number },
): Float64Array {
  const { values } = klTerm(logProbs, negativeLogProbs, estimator);
  const least = leastKept(values, topShare);
  return values.map((value) => (value >= least ? 1 : 0));
}

function leastKept(values: Float64Array, topShare: number): number {
  return quantile(values.slice().sort(), 1 - topShare);
}

/** Zeroes the tokens of each sequence below its (1 - topShare) quantile of values over the masked tokens. */
function maskTokens(term: TokenTerm, batch: TapoBatch, topShare: number): void {
  const [B, T] = batch.shape;
  for (let row = 0; row < B; row++) {
    const from = row * T;
    const valid = term.values.slice(from, from + T).filter((_, t) => batch.mask[from + t]! > 0);
    if (valid.length === 0) continue;
    const threshold = leastKept(valid, topShare);
    for (let i = from; i < from + T; i++) {
      if (term.values[i]! >= threshold) continue;
      term.values[i] = 0;
      term.slopes[i] = 0;
    }
  }
}

function clipTokens(term: TokenTerm, clip: number): void {
  for (let i = 0; i < term.values.length; i++) {
    const value = term.values[i]!;
    if (value >= 0 && value <= clip) continue;
    term.values[i] = value < 0 ? 0 : clip;
    term.slopes[i] = 0;
  }
}

/** Weights that turn a sum over tokens into the mean over sequences of each sequence's own mean. */
function sequenceWeights(batch: TapoBatch, sequences: number): Float64Array {
  const [B, T] = batch.shape;
  const weights = new Float64Array(B * T);
  for (let row = 0; row < B; row++) {
    let length = 0;
    for (let t = 0; t < T; t++) length += batch.mask[row * T + t]!;
    for (let t = 0; t < T; t++) weights[row * T + t] = batch.mask[row * T + t]! / (length + EPSILON) / sequences;
  }
  return weights;
}

function imitatedMask(batch: TapoBatch, accuracyAbove: number): Float64Array {
  const accuracies = required(batch.accuracies, 'imitation', 'accuracies');
  const [, T] = batch.shape;
  return Float64Array.from(batch.mask, (m, i) => (accuracies[Math.floor(i / T)]! > accuracyAbove ? m : 0));
}

function clamp(value: number, bound: number): number {
  return Math.min(Math.max(value, -bound), bound);
}

function required(values: ArrayLike<number> | undefined, term: string, input: string): ArrayLike<number> {
  if (values === undefined) throw new Fr1Error('SHAPE_MISMATCH', `the loss term ${term} needs ${input}`);
  return values;
}

function checkShapes(batch: TapoBatch): void {
  const [B, T] = batch.shape;
  const expected = {
    mask: B * T,
    advantages: B,
    logProbs: B * T,
    oldLogProbs: B * T,
    negativeLogProbs: B * T,
    referenceLogProbs: B * T,
    accuracies: B,
  } as const satisfies Record<Exclude<keyof TapoBatch, 'shape'>, number>;
  for (const [name, length] of Object.entries(expected) as [keyof typeof expected, number][]) {
    const values = batch[name];
    if (values !== undefined && values.length !== length) {
      throw new Fr1Error('SHAPE_MISMATCH', `${name} has ${values.length} elements instead of ${length}`);
    }
  }
}
