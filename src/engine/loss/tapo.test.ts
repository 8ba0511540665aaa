/**
 * The graph against the pure reference, which agrees with the recorded torch values of all twelve configurations, and
 * against those values themselves.
 */
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fixture } from '../../../test/helpers/fixtures.ts';
import { bareSource } from '../../../test/helpers/session-source.ts';
import {
  FINE_R1_TAPO_LOSS,
  type KlEstimator,
  keptTokens,
  type NegativeKlTerm,
  type TapoBatch,
  type TapoLossConfig,
  tapoDenominators,
  tapoLoss,
} from '../../methods/tapo-loss.ts';
import { backward } from '../autodiff/backward.ts';
import { Graph } from '../autodiff/graph.ts';
import { Program } from '../program.ts';
import { RandomStream } from '../random.ts';
import { openRuntime } from '../session/open-runtime.ts';
import type { Runtime } from '../session/runtime.ts';
import { float32, type HostTensor, int32 } from '../tensor.ts';
import { openSafetensors } from '../weights/safetensors.ts';
import { type TapoTerms, tapoLossGraph } from './tapo.ts';

let runtime: Runtime;
beforeAll(async () => {
  runtime = await openRuntime({ threads: 1 });
});
afterAll(() => runtime.close());

interface GraphSettings {
  readonly factor?: number;
  readonly oldPolicy?: 'fed' | 'current';
  readonly negativeBranch?: 'fed' | 'trained';
}

/**
 * Loss, terms and gradients of the graph. The log-probabilities are a parameter [N] that is fed: the tokens of the responses,
 * and where the negative branch is trained, the same tokens under the negative image after them.
 */
async function graphLoss(batch: TapoBatch, config: TapoLossConfig, settings: GraphSettings = {}) {
  const { factor = 1, oldPolicy = 'fed', negativeBranch = 'fed' } = settings;
  const scaled = <T extends { readonly coefficient: number }>(term: T) => ({
    ...term,
    coefficient: term.coefficient * factor,
  });
  const negativeTerm = ({ tokenMask, ...term }: NegativeKlTerm) => ({
    ...scaled(term),
    isMasked: tokenMask !== undefined,
  });
  const terms: TapoTerms = {
    clipLow: config.clipLow,
    clipHigh: config.clipHigh,
    dualClip: config.dualClip,
    oldPolicy,
    negativeBranch,
    ...(config.negativeKl && { negativeKl: negativeTerm(config.negativeKl) }),
    ...(config.negativeEntropy && { negativeEntropy: scaled(config.negativeEntropy) }),
    ...(config.ownEntropy && { ownEntropy: scaled(config.ownEntropy) }),
    ...(config.referenceKl && { referenceKl: config.referenceKl }),
    ...(config.imitation && { imitation: { coefficient: config.imitation.coefficient } }),
  };
  const [B, T] = batch.shape;
  const valid: number[] = [];
  for (let i = 0; i < B * T; i++) if (batch.mask[i]! > 0) valid.push(i);
  const rowOf = (i: number) => Math.floor(i / T);
  const lengths = new Float64Array(B);
  for (const i of valid) lengths[rowOf(i)]!++;
  const kept = keptPlaces(batch, config.negativeKl);
  const { tokens, sequences, imitatedTokens } = tapoDenominators([batch], config);
  const weightOf = (i: number) => (config.averaging === 'token' ? 1 / tokens : 1 / lengths[rowOf(i)]! / sequences);

  const isDouble = negativeBranch === 'trained';
  const own = valid.length;
  const count = isDouble ? 2 * own : own;
  const feed = (of: (i: number) => number) => {
    const values = new Float32Array(count);
    valid.forEach((i, n) => {
      values[n] = of(i);
    });
    return float32([count], values);
  };
  const taken = (values: ArrayLike<number> | undefined) => feed((i) => values?.[i] ?? Number.NaN);
  const logProbs = taken(batch.logProbs);
  if (isDouble) logProbs.data.set(taken(batch.negativeLogProbs).data.subarray(0, own), own);
  const places = (isOwn: boolean, offset: number) =>
    Int32Array.from({ length: count }, (_, n) => (n < own === isOwn ? n + offset : count));
  const available: Record<string, HostTensor> = {
    log_probs: logProbs,
    old_log_probs: taken(batch.oldLogProbs),
    negative_log_probs: taken(batch.negativeLogProbs),
    negative_index: int32([count], places(true, own)),
    negative_uses: int32([count, 1], places(false, -own)),
    reference_log_probs: taken(batch.referenceLogProbs),
    advantages: feed((i) => batch.advantages[rowOf(i)]!),
    token_weight: feed(() => 1 / tokens),
    weight: feed(weightOf),
    negative_kl_weight: feed((i) => (kept.has(i) ? weightOf(i) : 0)),
    imitation_weight: feed((i) =>
      batch.accuracies![rowOf(i)]! > (config.imitation?.accuracyAbove ?? 1) ? 1 / imitatedTokens : 0,
    ),
  };
  const graph = new Graph();
  const parameter = graph.parameter('log_probs', ['N']);
  const loss = tapoLossGraph(terms);
  const built = loss.build(graph, parameter);
  const { dense } = backward(built.loss, [parameter]);
  const program = await Program.compile(
    bareSource(runtime),
    graph,
    { total: built.loss, gradient: dense.get(parameter)!, ...built.terms },
    { key: loss.key },
  );
  const feeds = Object.fromEntries(program.feeds.map(({ name }) => [name, available[name]!]));
  const result = await program.run(feeds);
  await program.release();
  const spread = (from: number) => {
    const gradient = new Float64Array(B * T);
    valid.forEach((i, n) => {
      gradient[i] = Number(result['gradient']!.data[from + n]);
    });
    return gradient;
  };
  return {
    termValue: (name: string) => (result[name] ? Number(result[name].data[0]) : undefined),
    gradient: spread(0),
    negativeGradient: isDouble ? spread(own) : null,
    inputs: program.feeds.map(({ name }) => name).sort(),
  };
}

/** Tokens that the mask of the term keeps; all without one. */
function keptPlaces({ shape: [B, T], mask, ...batch }: TapoBatch, term: NegativeKlTerm | undefined): Set<number> {
  const kept = new Set<number>();
  for (let row = 0; row < B; row++) {
    const valid = Array.from({ length: T }, (_, t) => row * T + t).filter((i) => mask[i]! > 0);
    const of = (values: ArrayLike<number>) => valid.map((i) => values[i]!);
    const keep = term?.tokenMask
      ? keptTokens(of(batch.logProbs), of(batch.negativeLogProbs!), { ...term, ...term.tokenMask })
      : valid.map(() => 1);
    valid.forEach((i, n) => {
      if (keep[n] === 1) kept.add(i);
    });
  }
  return kept;
}

/** Everything that both give, with a tolerance that float32 needs. */
async function expectAgreement(batch: TapoBatch, config: TapoLossConfig, factor = 1) {
  const want = tapoLoss(batch, config, { scheduleFactor: factor });
  const got = await graphLoss(batch, config, { factor });
  const values = { total: want.total, ...want.terms, ...want.diagnostics };
  for (const [name, value] of Object.entries(values)) {
    expect(Math.abs(got.termValue(name)! - value), `${name}: ${got.termValue(name)} for ${value}`).toBeLessThan(
      2e-6 * Math.max(1, Math.abs(value)),
    );
  }
  const largest = want.gradient.reduce((most, slope) => Math.max(most, Math.abs(slope)), 0);
  expect(largest).toBeGreaterThan(0);
  want.gradient.forEach((slope, i) => {
    expect(Math.abs(got.gradient[i]! - slope), `gradient of token ${i}`).toBeLessThan(2e-6 * largest);
  });
  return got;
}

interface Golden {
  readonly config: Readonly<Record<string, number | boolean | string>>;
  readonly expected: Readonly<Record<string, number>>;
}
const goldens = JSON.parse(readFileSync(fixture('fine-r1', 'tapo_loss.json'), 'utf8')) as Record<string, Golden>;
const file = openSafetensors(fixture('fine-r1', 'tapo_loss.safetensors'));
const tensor = (name: string) => file.read(name).data as Float32Array;
const [B, T] = file.info('log_probs').shape as [number, number];
const recorded: TapoBatch = {
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
    clipLow: Number(config['clip_ratio_low']),
    clipHigh: Number(config['clip_ratio_high']),
    dualClip: Number(config['clip_ratio_dual']),
    averaging: config['loss_avg_mode'] === 'seq' ? 'sequence' : 'token',
    normalisation: 'micro',
    ownEntropy: { coefficient: Number(config['ori_entropy_loss_coef']) },
    ...(config['use_kl_prcp'] === true && {
      negativeEntropy: { coefficient: Number(config['aug_entropy_loss_coef']) },
      negativeKl: {
        coefficient: Number(config['kl_prcp_coef']),
        estimator: ESTIMATORS[String(config['kl_prcp_penalty'])]!,
        ...(config['use_kl_prcp_clipping'] === true && { clip: Number(config['kl_prcp_clipping']) }),
        ...(config['use_kl_prcp_token_level_mask'] === true && {
          tokenMask: { topShare: Number(config['kl_prcp_token_level_mask_top_p']) },
        }),
      },
    }),
    ...(config['use_kl_loss'] === true && {
      referenceKl: { coefficient: Number(config['kl_coef']), estimator: 'k3' as const },
    }),
    ...(config['use_sft_loss'] === true && {
      imitation: { coefficient: Number(config['sft_loss_coef']), accuracyAbove: 0.1 },
    }),
  };
}

describe('tapoLossGraph()', () => {
  it.each(Object.entries(goldens))(
    'agrees with the recorded torch loss in the configuration %s',
    async (name, golden) => {
      const factor = Number(golden.config['kl_prcp_coef_now']) / Number(golden.config['kl_prcp_coef']);
      const { termValue, gradient } = await expectAgreement(recorded, configOf(golden), factor);
      const names: Readonly<Record<string, string>> = {
        policy_loss: 'policy',
        ppo_kl: 'approximateKl',
        entropy_loss: 'entropy',
        pg_clipfrac_higher: 'clippedShare',
        pg_clipfrac_lower: 'dualClippedShare',
        inter_class_kl: 'negativeKl',
        aug_entropy: 'negativeEntropy',
        ori_entropy: 'ownEntropy',
        ref_kl: 'referenceKl',
        sft_loss: 'imitation',
        total: 'total',
      };
      for (const [key, value] of Object.entries(golden.expected)) {
        expect(Math.abs(termValue(names[key]!)! - value), key).toBeLessThan(2e-6);
      }
      tensor(`grad_${name}`).forEach((slope, i) => {
        expect(Math.abs(gradient[i]! - slope), `gradient of token ${i}`).toBeLessThan(2e-7);
      });
    },
  );

  it('covers all twelve recorded configurations', () => {
    expect(Object.keys(goldens)).toHaveLength(12);
  });

  it.each([
    ['token', 'k3'],
    ['token', 'k1'],
    ['sequence', 'abs'],
    ['sequence', 'k2'],
  ] as const)('agrees with the reference far from the old policy (%s, %s)', async (averaging, estimator) => {
    const stream = new RandomStream('tapo-graph', averaging, estimator);
    const shape = [6, 9] as const;
    const around = (width: number) => Float32Array.from({ length: 54 }, () => -8 + width * stream.normal());
    const batch: TapoBatch = {
      shape,
      mask: Float32Array.from({ length: 54 }, (_, i) => (i % 9 <= Math.floor(i / 9) + 2 ? 1 : 0)),
      advantages: Float32Array.from({ length: 6 }, (_, i) => (i === 0 ? 0 : stream.normal())),
      logProbs: around(3),
      oldLogProbs: around(3),
      negativeLogProbs: around(3),
      referenceLogProbs: around(1),
      accuracies: [0, 1, 0, 1, 1, 0],
    };
    const got = await expectAgreement(batch, {
      ...FINE_R1_TAPO_LOSS,
      averaging,
      negativeKl: { coefficient: 0.3, estimator, clip: 2 },
      referenceKl: { coefficient: 0.2, estimator },
      imitation: { coefficient: 0.1, accuracyAbove: 0.1 },
    });
    expect(got.termValue('clippedShare')).toBeGreaterThan(0);
    expect(got.termValue('dualClippedShare')).toBeGreaterThan(0);
  });

  it.each([
    ['token', 'k3', {}],
    ['sequence', 'k2', { clip: 2 }],
    ['token', 'k1', { tokenMask: { topShare: 0.4 } }],
  ] as const)(
    'Q16: trains through the negative image as the reference would (%s, %s)',
    async (averaging, estimator, more) => {
      const config: TapoLossConfig = {
        ...FINE_R1_TAPO_LOSS,
        averaging,
        negativeKl: { coefficient: 0.3, estimator, ...more },
        negativeEntropy: { coefficient: 0.2 },
      };
      const want = tapoLoss(recorded, config);
      const got = await graphLoss(recorded, config, { negativeBranch: 'trained' });
      expect(got.inputs).not.toContain('negative_log_probs');
      expect(Math.abs(got.termValue('total')! - want.total)).toBeLessThan(2e-6);
      expect(want.negativeGradient.some((slope) => Math.abs(slope) > 1e-3)).toBe(true);
      for (const [i, slope] of want.gradient.entries()) expect(Math.abs(got.gradient[i]! - slope)).toBeLessThan(1e-6);
      for (const [i, slope] of want.negativeGradient.entries()) {
        if (recorded.mask[i]! > 0) expect(Math.abs(got.negativeGradient![i]! - slope)).toBeLessThan(1e-6);
      }
    },
  );

  it('takes its own log-probabilities as the old ones', async () => {
    const current = await graphLoss(recorded, FINE_R1_TAPO_LOSS, { oldPolicy: 'current' });
    const fed = await graphLoss({ ...recorded, oldLogProbs: recorded.logProbs }, FINE_R1_TAPO_LOSS);
    expect(current.inputs).not.toContain('old_log_probs');
    expect(current.gradient).toEqual(fed.gradient);
    expect(current.termValue('total')).toBe(fed.termValue('total'));
    expect(current.termValue('approximateKl')).toBeCloseTo(0, 12);
  });

  it('has no inputs for absent terms', async () => {
    const { clipLow, clipHigh, dualClip, averaging, normalisation } = FINE_R1_TAPO_LOSS;
    const plain = await expectAgreement(recorded, { clipLow, clipHigh, dualClip, averaging, normalisation });
    expect(plain.inputs).toEqual(['advantages', 'log_probs', 'old_log_probs', 'token_weight', 'weight']);
    expect(plain.termValue('negativeKl')).toBeUndefined();
    const { inputs } = await graphLoss(recorded, FINE_R1_TAPO_LOSS);
    expect(inputs).toContain('negative_log_probs');
  });
});
