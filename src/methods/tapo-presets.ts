/**
 * Named starting points for reinforcement on triplets: what an option is when a pipeline does not give it. `tapo` is the
 * method of Fine-R1; `fine-r1-3b` and `fine-r1-7b` are its released scripts in full; the others are the methods that it is
 * compared with, on the same footing: they differ from `tapo` in nothing but what makes the method.
 */
import type { KlEstimator } from './tapo-loss.ts';

/** Divergence term of the loss. */
export interface DivergenceTerm {
  readonly coefficient: number;
  readonly estimator: KlEstimator;
}

export interface TapoSettings {
  readonly views: {
    /** What half of a group answers about beside the anchor. */
    readonly positive: 'same-class' | 'noise' | 'none';
    /** What the likelihoods are compared with. */
    readonly negative: 'other-class' | 'masked' | 'none';
  };
  readonly positiveConditioning: 'own' | 'anchor';
  readonly advantages: 'group' | 'leave-one-out' | 'reinforce++';
  /** Mean accuracy of the groups that are trained on, both bounds exclusive; null keeps all groups. */
  readonly filter: { readonly above: number; readonly below: number } | null;
  readonly lossAveraging: 'token' | 'sequence';
  readonly clipLow: number;
  readonly clipHigh: number;
  readonly dualClip: number;
  readonly negativeKl: DivergenceTerm | null;
  readonly ownEntropy: number | null;
  readonly negativeEntropy: number | null;
  readonly referenceKl: DivergenceTerm | null;
  readonly groupsPerStep: number;
  /** null: as many as a step needs, and then as are likely missing. */
  readonly questionsPerDraw: number | null;
  readonly rollouts: number;
  readonly updatesPerStep: number;
  readonly temperature: number;
  readonly topP: number;
  readonly maxNewTokens: number;
  readonly learningRate: number;
  readonly weightDecay: number;
  /** Where the steps of a pipeline are not given: passes over the data. */
  readonly epochs: number | null;
  /** null: the model folder's. */
  readonly minPixels: number | null;
  readonly maxPixels: number | null;
}

const TAPO: TapoSettings = {
  views: { positive: 'same-class', negative: 'other-class' },
  positiveConditioning: 'own',
  advantages: 'group',
  filter: { above: 0.01, below: 0.99 },
  lossAveraging: 'token',
  clipLow: 0.2,
  clipHigh: 0.28,
  dualClip: 3,
  negativeKl: { coefficient: 0.01, estimator: 'k3' },
  ownEntropy: 0.03,
  negativeEntropy: null,
  referenceKl: null,
  groupsPerStep: 16,
  questionsPerDraw: null,
  rollouts: 5,
  updatesPerStep: 1,
  temperature: 1,
  topP: 1,
  maxNewTokens: 2048,
  learningRate: 1e-6,
  weightDecay: 0.01,
  epochs: null,
  minPixels: null,
  maxPixels: null,
};

/** Both of Fine-R1's scripts; they differ in rows per step and draw, and in passes. */
const FINE_R1: TapoSettings = {
  ...TAPO,
  negativeEntropy: 0.03,
  updatesPerStep: 3,
  topP: 0.99,
  minPixels: 200_704,
  maxPixels: 1_003_520,
};

/** No views and no entropy: what TAPO adds its terms to. */
const DAPO: TapoSettings = {
  ...TAPO,
  views: { positive: 'none', negative: 'none' },
  negativeKl: null,
  ownEntropy: null,
};

export const TAPO_PRESETS = {
  tapo: TAPO,
  'fine-r1-3b': { ...FINE_R1, groupsPerStep: 384, questionsPerDraw: 128, epochs: 10 },
  'fine-r1-7b': { ...FINE_R1, groupsPerStep: 192, questionsPerDraw: 64, epochs: 5 },
  /** @see Yu et al. 2025, arXiv:2503.14476 */
  dapo: DAPO,
  /** Every group, one clip, a mean per answer, and a divergence from the first policy. @see Shao et al. 2024, arXiv:2402.03300 */
  grpo: {
    ...DAPO,
    filter: null,
    lossAveraging: 'sequence',
    clipHigh: 0.2,
    referenceKl: { coefficient: 0.04, estimator: 'k3' },
  },
  /** @see Ahmadian et al. 2024, arXiv:2402.14740 */
  rloo: { ...DAPO, advantages: 'leave-one-out', filter: null },
  /** @see Hu et al. 2025, arXiv:2501.03262 */
  'reinforce++': { ...DAPO, advantages: 'reinforce++', filter: null },
  /** DAPO with a divergence from the anchor with holes and both entropies. @see Wang et al. 2025, arXiv:2507.06448 */
  papo: {
    ...TAPO,
    views: { positive: 'none', negative: 'masked' },
    negativeEntropy: 0.03,
  },
  /** Half of the answers see a noisy anchor; all are trained on the clean one. @see Liu et al. 2025, arXiv:2504.13055 */
  'noisy-rollout': {
    ...DAPO,
    views: { positive: 'noise', negative: 'none' },
    positiveConditioning: 'anchor',
  },
} as const satisfies Record<string, TapoSettings>;

export type TapoPreset = keyof typeof TAPO_PRESETS;

/** Share of the cells of a masked image that are black. @see Wang et al. 2025, arXiv:2507.06448 */
export const MASKED_SHARE = 0.6;

export interface NoiseAnnealing {
  /** Diffusion steps of noise at the start, of 1000. */
  readonly strength: number;
  /** Share of training after which half of it is left. */
  readonly midpoint: number;
  readonly steepness: number;
}

/** NoisyRollout's published setting: 500 at first, its middle at step 40 of 60. */
export const NOISE_ANNEALING: NoiseAnnealing = { strength: 500, midpoint: 2 / 3, steepness: 30 };

/**
 * Strength of the noise at a step: strength (1 - sigmoid(steepness (step / total - midpoint))), falling from the full
 * strength to almost none.
 *
 * @see Liu et al. 2025, arXiv:2504.13055, noise annealing
 */
export function noiseStrength(step: number, totalSteps: number, annealing: NoiseAnnealing): number {
  const { strength, midpoint, steepness } = annealing;
  return strength / (1 + Math.exp(steepness * (step / totalSteps - midpoint)));
}

/** Steps of so many passes over the rows; a pass drops what does not fill a step. */
export function stepsOfEpochs(epochs: number, rows: number, groupsPerStep: number): number {
  return epochs * Math.max(1, Math.floor(rows / groupsPerStep));
}
