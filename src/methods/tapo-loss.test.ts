import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { RandomStream } from '../engine/random.ts';
import { openSafetensors } from '../engine/weights/safetensors.ts';
import {
  FINE_R1_TAPO_LOSS,
  type KlEstimator,
  keptTokens,
  type TapoBatch,
  type TapoLossConfig,
  tapoLoss,
  tapoStepLoss,
} from './tapo-loss.ts';

/** The settings and outputs of the reference loss (torch 2.11.0, float32), under its own names. */
interface Golden {
  readonly config: {
    readonly clip_ratio_low: number;
    readonly clip_ratio_high: number;
    readonly clip_ratio_dual: number;
    readonly loss_avg_mode: 'token' | 'seq';
    readonly use_kl_loss: boolean;
    readonly kl_coef: number;
    readonly use_kl_prcp: boolean;
    readonly kl_prcp_penalty: string;
    readonly kl_prcp_coef: number;
    readonly kl_prcp_coef_now: number;
    readonly aug_entropy_loss_coef: number;
    readonly ori_entropy_loss_coef: number;
    readonly use_kl_prcp_clipping: boolean;
    readonly kl_prcp_clipping: number;
    readonly use_kl_prcp_token_level_mask: boolean;
    readonly kl_prcp_token_level_mask_top_p: number;
    readonly use_sft_loss: boolean;
    readonly sft_loss_coef: number;
  };
  readonly expected: Readonly<Record<string, number>>;
}

const folder = new URL('../../test/fixtures/fine-r1/', import.meta.url);
const goldens = JSON.parse(readFileSync(new URL('tapo_loss.json', folder), 'utf8')) as Record<string, Golden>;
const file = openSafetensors(fileURLToPath(new URL('tapo_loss.safetensors', folder)));
const tensor = (name: string) => file.read(name).data as Float32Array;
const [B, T] = file.info('log_probs').shape as [number, number];
const gradients = new Map(Object.keys(goldens).map((name) => [name, tensor(`grad_${name}`)]));
const batch: TapoBatch = {
  shape: [B, T],
  mask: tensor('response_mask'),
  advantages: Array.from({ length: B }, (_, row) => tensor('advantages')[row * T]!),
  logProbs: tensor('log_probs'),
  oldLogProbs: tensor('old_log_probs'),
  negativeLogProbs: tensor('aug_log_probs'),
  referenceLogProbs: tensor('ref_log_probs'),
  accuracies: tensor('correct'),
};

const ESTIMATORS: Readonly<Record<string, KlEstimator>> = { low_var_kl: 'k3', kl: 'k1', abs: 'abs', mse: 'k2' };

function configOf({ config }: Golden): TapoLossConfig {
  return {
    clipLow: config.clip_ratio_low,
    clipHigh: config.clip_ratio_high,
    dualClip: config.clip_ratio_dual,
    averaging: config.loss_avg_mode === 'seq' ? 'sequence' : 'token',
    normalisation: 'micro',
    ownEntropy: { coefficient: config.ori_entropy_loss_coef },
    ...(config.use_kl_prcp && {
      negativeEntropy: { coefficient: config.aug_entropy_loss_coef },
      negativeKl: {
        coefficient: config.kl_prcp_coef,
        estimator: ESTIMATORS[config.kl_prcp_penalty]!,
        ...(config.use_kl_prcp_clipping && { clip: config.kl_prcp_clipping }),
        ...(config.use_kl_prcp_token_level_mask && {
          tokenMask: { topShare: config.kl_prcp_token_level_mask_top_p },
        }),
      },
    }),
    ...(config.use_kl_loss && { referenceKl: { coefficient: config.kl_coef, estimator: 'k3' } }),
    ...(config.use_sft_loss && { imitation: { coefficient: config.sft_loss_coef, accuracyAbove: 0.1 } }),
  };
}

describe('tapoLoss()', () => {
  it.each(Object.entries(goldens))('agrees with the reference in the configuration %s', (name, golden) => {
    const { config, expected } = golden;
    const scheduleFactor = config.kl_prcp_coef_now / config.kl_prcp_coef;
    const { terms, total, gradient, diagnostics } = tapoLoss(batch, configOf(golden), { scheduleFactor });
    const produced: Record<string, number | undefined> = {
      policy_loss: terms.policy,
      ppo_kl: diagnostics.approximateKl,
      entropy_loss: diagnostics.entropy,
      pg_clipfrac_higher: diagnostics.clippedShare,
      pg_clipfrac_lower: diagnostics.dualClippedShare,
      inter_class_kl: terms.negativeKl,
      aug_entropy: terms.negativeEntropy,
      ori_entropy: terms.ownEntropy,
      ref_kl: terms.referenceKl,
      sft_loss: terms.imitation,
      total,
    };
    const present = Object.keys(produced).filter((key) => produced[key] !== undefined);
    expect(present.sort()).toEqual(Object.keys(expected).sort());
    for (const [key, value] of Object.entries(expected)) {
      expect(Math.abs(produced[key]! - value), `${key}: ${produced[key]} for ${value}`).toBeLessThan(1e-6);
    }
    let worst = 0;
    gradients.get(name)!.forEach((value, i) => {
      worst = Math.max(worst, Math.abs(gradient[i]! - value));
    });
    expect(worst).toBeLessThan(1e-8);
  });

  it('covers the twelve configurations', () => {
    expect(Object.keys(goldens)).toHaveLength(12);
  });

  const everyTerm = (averaging: 'token' | 'sequence', estimator: KlEstimator): TapoLossConfig => ({
    ...FINE_R1_TAPO_LOSS,
    averaging,
    negativeKl: { coefficient: 0.3, estimator, tokenMask: { topShare: 0.5 }, clip: 2 },
    referenceKl: { coefficient: 0.2, estimator },
    imitation: { coefficient: 0.1, accuracyAbove: 0.1 },
  });

  it.each([
    ['token', 'k3'],
    ['token', 'k2'],
    ['sequence', 'k1'],
    ['sequence', 'abs'],
  ] as const)('has the gradient of its finite differences (%s, %s)', (averaging, estimator) => {
    const random = wideBatch(4, 6);
    const config = everyTerm(averaging, estimator);
    const { gradient } = tapoLoss(random, config);
    const step = 1e-6;
    for (let i = 0; i < gradient.length; i++) {
      const moved = (by: number) =>
        tapoLoss({ ...random, logProbs: random.logProbs.map((l, j) => (i === j ? l + by : l)) }, config).total;
      expect(Math.abs((moved(step) - moved(-step)) / (2 * step) - gradient[i]!)).toBeLessThan(1e-6);
    }
  });

  it.each(['k3', 'k1', 'abs', 'k2'] as const)('has the gradient through the negative image (%s)', (estimator) => {
    const random = wideBatch(4, 6);
    const negative = Array.from(random.negativeLogProbs!);
    const config = everyTerm('sequence', estimator);
    const { negativeGradient } = tapoLoss(random, config, { scheduleFactor: 0.7 });
    const step = 1e-6;
    for (let i = 0; i < negative.length; i++) {
      const moved = (by: number) => {
        const negativeLogProbs = negative.map((l, j) => (i === j ? l + by : l));
        return tapoLoss({ ...random, negativeLogProbs }, config, { scheduleFactor: 0.7 }).total;
      };
      expect(Math.abs((moved(step) - moved(-step)) / (2 * step) - negativeGradient[i]!)).toBeLessThan(1e-6);
    }
    expect(negativeGradient.some((slope) => Math.abs(slope) > 1e-3)).toBe(true);
  });

  it('has a bounded negative KL without gradient where the negative image makes the token far likelier', () => {
    const single: TapoBatch = {
      shape: [1, 1],
      mask: [1],
      advantages: [0],
      logProbs: [-9],
      oldLogProbs: [-9],
      negativeLogProbs: [-0.1],
    };
    const config: TapoLossConfig = { ...FINE_R1_TAPO_LOSS, ownEntropy: { coefficient: 0 } };
    const { terms, gradient } = tapoLoss(single, config);
    expect(terms.negativeKl).toBeCloseTo(10, 6);
    expect(Math.abs(gradient[0]!)).toBe(0);
  });

  it('gives no gradient through the entropy on the negative image', () => {
    const { negativeEntropy: _, ...without } = FINE_R1_TAPO_LOSS;
    const plain = tapoLoss(batch, without);
    const withTerm = tapoLoss(batch, FINE_R1_TAPO_LOSS);
    expect(withTerm.total).not.toBe(plain.total);
    expect(withTerm.gradient).toEqual(plain.gradient);
  });

  it('leaves tokens outside the mask without gradient', () => {
    const { gradient } = tapoLoss(batch, FINE_R1_TAPO_LOSS);
    const outside = gradient.filter((_, i) => batch.mask[i] === 0);
    expect(outside.length).toBeGreaterThan(0);
    expect(outside.every((slope) => slope === 0)).toBe(true);
  });

  it('names the input that a configured term lacks', () => {
    const { negativeLogProbs: _, ...lacking } = batch;
    expect(() => tapoLoss(lacking, FINE_R1_TAPO_LOSS)).toThrow('the loss term negativeKl needs negativeLogProbs');
  });

  it('names the array that does not fit the shape', () => {
    expect(() => tapoLoss({ ...batch, advantages: [1] }, FINE_R1_TAPO_LOSS)).toThrow('advantages has 1 elements');
  });
});

describe('keptTokens()', () => {
  it('keeps the tokens with the greatest divergence', () => {
    const own = [-1, -1, -1, -1, -1];
    const negative = [-1, -3, -1.5, -6, -1.1];
    const kept = (topShare: number) => [...keptTokens(own, negative, { estimator: 'k3', topShare })];
    expect(kept(1)).toEqual([1, 1, 1, 1, 1]);
    expect(kept(0.5)).toEqual([0, 1, 1, 1, 0]);
    expect(kept(0.2)).toEqual([0, 0, 0, 1, 0]);
  });
});

describe('tapoStepLoss()', () => {
  const split = [rowsOf(batch, 0, 3), rowsOf(batch, 3, 4), rowsOf(batch, 4, B)];

  it.each(['token', 'sequence'] as const)(
    'gives the same step for every split when normalised by step (%s)',
    (averaging) => {
      const config: TapoLossConfig = {
        ...FINE_R1_TAPO_LOSS,
        averaging,
        normalisation: 'step',
        imitation: { coefficient: 0.1, accuracyAbove: 0.1 },
      };
      const whole = tapoStepLoss([batch], config);
      const parts = tapoStepLoss(split, config);
      expect(parts.total).toBeCloseTo(whole.total, 9);
      const joined = parts.gradients.flatMap((gradient) => [...gradient]);
      for (const [i, slope] of joined.entries()) expect(slope).toBeCloseTo(whole.gradients[0]![i]!, 12);
    },
  );

  it('averages the losses of the micro-batches when normalised by micro-batch', () => {
    const { total, gradients: parts } = tapoStepLoss(split, FINE_R1_TAPO_LOSS);
    const losses = split.map((part) => tapoLoss(part, FINE_R1_TAPO_LOSS));
    expect(total).toBeCloseTo(losses.reduce((sum, loss) => sum + loss.total, 0) / 3, 12);
    expect(parts[1]![0]).toBeCloseTo(losses[1]!.gradient[0]! / 3, 15);
    expect(Math.abs(total - tapoStepLoss([batch], FINE_R1_TAPO_LOSS).total)).toBeGreaterThan(1e-3);
  });
});

/** Rows [from, to) of a batch. */
function rowsOf(whole: TapoBatch, from: number, to: number): TapoBatch {
  const perToken = (values: ArrayLike<number>) => Array.from(values).slice(from * T, to * T);
  return {
    shape: [to - from, T],
    mask: perToken(whole.mask),
    advantages: Array.from(whole.advantages).slice(from, to),
    logProbs: perToken(whole.logProbs),
    oldLogProbs: perToken(whole.oldLogProbs),
    negativeLogProbs: perToken(whole.negativeLogProbs!),
    accuracies: Array.from(whole.accuracies!).slice(from, to),
  };
}

/** A batch whose ratios reach all clamps; drawn from a fixed stream. */
function wideBatch(rows: number, tokens: number) {
  const stream = new RandomStream(11, 'tapo-loss.test');
  const size = rows * tokens;
  const draw = () => Array.from({ length: size }, () => -0.05 - 3 * stream.uniform());
  return {
    shape: [rows, tokens] as const,
    mask: Array.from({ length: size }, (_, i) => Number(i % tokens <= 2 + Math.floor(i / tokens))),
    advantages: Array.from({ length: rows }, () => stream.normal()),
    logProbs: draw(),
    oldLogProbs: draw(),
    negativeLogProbs: draw(),
    referenceLogProbs: draw(),
    accuracies: [0, 1, 1, 0],
  } satisfies TapoBatch;
}
