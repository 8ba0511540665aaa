/**
 * The TAPO actor loss as a graph over the log-probabilities of the sampled tokens, so that any normalisation and
 * averaging is a choice of weights by the host.
 *
 * Per token, with l the log-probability in training, l_old and l_neg constants, A the advantage and w the weight:
 *
 *   d = clamp(l - l_old, -20, 20)        r = e^d        r' = exp(clamp(d, ln(1 - clipLow), ln(1 + clipHigh)))
 *   p = max(-A r, -A r'), at most |A| dualClip
 *   u = clamp(l_neg - l, -20, 20)        k = clamp(e^u - u - 1, -10, 10)
 *   L = sum w p - g sum w k + h_own sum w_t (-l) + h_neg sum w_t (-l_neg) + c_ref sum w k_ref + c_im sum w_i (-l)
 *
 * A term that the settings lack has neither nodes nor inputs. A token mask of the negative divergence is a weight of its own, since
 * which tokens it keeps is a choice without gradient. src/methods/tapo-loss.ts is the readable reference.
 *
 * @see Fine-R1, arXiv:2602.07605, section 4.3
 */
import type { Graph, Value } from '../autodiff/graph.ts';
import type { LossBuilder } from '../models/qwen2_5_vl/training-model.ts';
import { Add } from '../ops/add.ts';
import { Cast } from '../ops/cast.ts';
import { Clip } from '../ops/clip.ts';
import { Exp } from '../ops/exp.ts';
import { GatherRows } from '../ops/gather-rows.ts';
import { Less } from '../ops/less.ts';
import { Max } from '../ops/max.ts';
import { Min } from '../ops/min.ts';
import { Mul } from '../ops/mul.ts';
import { Neg } from '../ops/neg.ts';
import { ReduceSum } from '../ops/reduce-sum.ts';
import { Reshape } from '../ops/reshape.ts';
import { StopGradient } from '../ops/stop-gradient.ts';
import { Sub } from '../ops/sub.ts';

/** k3: e^-x + x - 1; k1: x; abs: |x|; k2: x^2 / 2, with x = l - l_other. */
export type KlForm = 'k3' | 'k1' | 'abs' | 'k2';

/** Every term is present with its settings or absent. */
export interface TapoTerms {
  readonly clipLow: number;
  readonly clipHigh: number;
  /** Bound on the ratio for negative advantages; more than 1. */
  readonly dualClip: number;
  /**
   * `fed`: log-probabilities of the policy that sampled. `current`: those of this very graph without their gradient, for
   * the only update after a rollout; the ratio is then 1 exactly. @default 'fed'
   */
  readonly oldPolicy?: 'fed' | 'current';
  /**
   * `fed`: log-probabilities under the negative image are constants. `trained`: they are those of this very graph, and have a
   * gradient. @default 'fed'
   */
  readonly negativeBranch?: 'fed' | 'trained';
  /** Divergence from the policy on the negative image; maximised. */
  readonly negativeKl?: {
    readonly coefficient: number;
    readonly estimator: KlForm;
    /** Clamps each token's k to [0, clip]. */
    readonly clip?: number;
    /** Whether its tokens have weights of their own, fed as `negative_kl_weight`. @default false */
    readonly isMasked?: boolean;
  };
  /** A constant, with a value and no gradient, unless the negative branch is trained. */
  readonly negativeEntropy?: { readonly coefficient: number };
  /** Minimised. */
  readonly ownEntropy?: { readonly coefficient: number };
  readonly referenceKl?: { readonly coefficient: number; readonly estimator: KlForm };
  readonly imitation?: { readonly coefficient: number };
  /** Whether the negative divergence and both entropies are scaled by the scalar input `fading`. @default false */
  readonly isFading?: boolean;
  /** Whether the distance from the log-probabilities of sampling is reported. @default false */
  readonly rolloutDifference?: boolean;
}

/** Names of the terms that the graph reports: each before its coefficient, as a weighted sum. */
export type TapoTermName =
  | 'policy'
  | 'negativeKl'
  | 'negativeEntropy'
  | 'ownEntropy'
  | 'referenceKl'
  | 'imitation'
  | 'approximateKl'
  | 'entropy'
  | 'clippedShare'
  | 'dualClippedShare'
  | 'rolloutDifference';

const LOG_RATIO_BOUND = 20;
const K3_BOUND = 10;

/**
 * Inputs, each float32 [N] over the target tokens:
 *
 * advantages
 * old_log_probs         unless oldPolicy is `current`
 * weight                of the policy and KL terms; 1/N everywhere gives token means
 * token_weight          of the entropies and shares, which are token means under any averaging
 * negative_log_probs    when a term on the negative image is present, unless negativeBranch is `trained`
 * negative_kl_weight    when the negative divergence is masked: `weight`, or 0 for tokens that the mask leaves out
 * reference_log_probs   when referenceKl is present
 * imitation_weight      when imitation is present; 0 outside the imitated responses
 * rollout_log_probs     when the distance from sampling is reported: sum w_t |l_old - l_rollout|
 *
 * and the scalar `fading` when terms fade. Where the negative branch is trained, the targets hold every token twice: in an answer
 * about its own image and in the same answer about the negative one. The tokens of the latter have weight 0 and advantage 0, and
 * two int32 inputs tie both together:
 *
 * negative_index [N]     of a token on its own image the place of the same token on the negative one; N for the latter
 * negative_uses  [N, 1]  the inverse: of a token on the negative image the place of its own one; N for the others
 */
export function tapoLossGraph(terms: TapoTerms): LossBuilder {
  return {
    key: `tapo:${JSON.stringify(terms)}`,
    build: (graph, logProbs) => build(graph, logProbs, terms),
  };
}

/** Whether the loss needs log-probabilities under the negative image. */
export function needsNegative(terms: TapoTerms): boolean {
  return terms.negativeKl !== undefined || terms.negativeEntropy !== undefined;
}

function build(graph: Graph, logProbs: Value, terms: TapoTerms) {
  const input = (name: string) => graph.input(name, 'float32', ['N']);
  const constant = (value: number) => graph.scalar(value);
  const old = terms.oldPolicy === 'current' ? StopGradient(logProbs) : input('old_log_probs');
  const advantages = input('advantages');
  const weight = input('weight');
  const tokenWeight = input('token_weight');
  const negative = needsNegative(terms) ? negativeLogProbs(graph, logProbs, terms) : null;
  const sum = (weights: Value, values: Value) => ReduceSum(Mul(weights, values), [0]);
  const fading = terms.isFading ? graph.input('fading', 'float32', []) : null;

  const d = Clip(Sub(logProbs, old), -LOG_RATIO_BOUND, LOG_RATIO_BOUND);
  const gain = Neg(advantages);
  const free = Mul(gain, Exp(d));
  const clipped = Mul(gain, Exp(Clip(d, Math.log(1 - terms.clipLow), Math.log(1 + terms.clipHigh))));
  const unbounded = Max(free, clipped);
  // |A| dualClip: for A >= 0 the loss is below 0, so that the bound only acts where A < 0.
  const bound = Mul(Max(advantages, gain), constant(terms.dualClip));
  const surprise = Neg(logProbs);
  const reported: Partial<Record<TapoTermName, Value>> = {
    policy: sum(weight, Min(unbounded, bound)),
    approximateKl: sum(tokenWeight, Neg(d)),
    entropy: sum(weight, surprise),
    clippedShare: sum(tokenWeight, Cast(Less(free, clipped), 'float32')),
    dualClippedShare: sum(tokenWeight, Cast(Less(bound, unbounded), 'float32')),
  };
  let loss = reported.policy!;
  const add = (name: TapoTermName, coefficient: number, term: Value) => {
    reported[name] = term;
    loss = Add(loss, Mul(term, constant(coefficient)));
  };
  const addFading = (name: TapoTermName, coefficient: number, term: Value) => {
    if (fading === null) return add(name, coefficient, term);
    reported[name] = term;
    loss = Add(loss, Mul(Mul(term, constant(coefficient)), fading));
  };

  if (terms.negativeKl) {
    const { coefficient, estimator, clip, isMasked } = terms.negativeKl;
    const k = divergence(logProbs, negative!, estimator);
    const weights = isMasked ? input('negative_kl_weight') : weight;
    addFading('negativeKl', -coefficient, sum(weights, clip === undefined ? k : Clip(k, 0, clip)));
  }
  if (terms.negativeEntropy) {
    addFading('negativeEntropy', terms.negativeEntropy.coefficient, sum(tokenWeight, Neg(negative!)));
  }
  if (terms.ownEntropy) addFading('ownEntropy', terms.ownEntropy.coefficient, sum(tokenWeight, surprise));
  if (terms.referenceKl) {
    const { coefficient, estimator } = terms.referenceKl;
    add('referenceKl', coefficient, sum(weight, divergence(logProbs, input('reference_log_probs'), estimator)));
  }
  if (terms.imitation) add('imitation', terms.imitation.coefficient, sum(input('imitation_weight'), surprise));
  if (terms.rolloutDifference) {
    const distance = Sub(old, input('rollout_log_probs'));
    reported.rolloutDifference = sum(tokenWeight, Max(distance, Neg(distance)));
  }
  return { loss, terms: reported as Record<string, Value> };
}

/** Of every token under the negative image [N]. */
function negativeLogProbs(graph: Graph, logProbs: Value, { negativeBranch }: TapoTerms): Value {
  if (negativeBranch !== 'trained') return graph.input('negative_log_probs', 'float32', ['N']);
  const index = graph.input('negative_index', 'int32', ['N']);
  const uses = graph.input('negative_uses', 'int32', ['N', 1]);
  return Reshape(GatherRows(Reshape(logProbs, ['N', 1]), index, uses), ['N']);
}

/** The estimate per token. NOTE: at x = 0 the slope of `abs` is 1, where the reference has 0. */
function divergence(logProbs: Value, others: Value, form: KlForm): Value {
  const x = Sub(logProbs, others);
  const constant = (value: number) => logProbs.graph.scalar(value);
  switch (form) {
    case 'k1':
      return x;
    case 'abs':
      return Max(x, Neg(x));
    case 'k2':
      return Mul(Mul(x, x), constant(0.5));
    case 'k3': {
      const u = Clip(Neg(x), -LOG_RATIO_BOUND, LOG_RATIO_BOUND);
      return Clip(Sub(Sub(Exp(u), u), constant(1)), -K3_BOUND, K3_BOUND);
    }
    default:
      return form satisfies never;
  }
}
