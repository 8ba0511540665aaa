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
import { float32, type HostTensor } from '../tensor.ts';
import { openSafetensors } from '../weights/safetensors.ts';
import { type TapoTerms, tapoLossGraph } from './tapo.ts';

let runtime: Runtime;
beforeAll(async () => {
  runtime = await openRuntime({ threads: 1 });
});
afterAll(() => runtime.close());

type Supported = TapoLossConfig & { readonly negativeKl?: NegativeKlTerm & { readonly tokenMask?: never } };

/** Loss, terms and gradient of the graph; the log-probabilities are a parameter [N] that is fed. */
async function graphLoss(batch: TapoBatch, config: Supported, factor = 1, oldPolicy: 'fed' | 'current' = 'fed') {
  const scaled = <T extends { readonly coefficient: number }>(term: T | undefined) =>
    term && { ...term, coefficient: term.coefficient * factor };
  const terms: TapoTerms = {
    clipLow: config.clipLow,
    clipHigh: config.clipHigh,
    dualClip: config.dualClip,
    oldPolicy,
    ...(config.negativeKl && { negativeKl: scaled(config.negativeKl)! }),
    ...(config.negativeEntropy && { negativeEntropy: scaled(config.negativeEntropy)! }),
    ...(config.ownEntropy && { ownEntropy: scaled(config.ownEntropy)! }),
    ...(config.referenceKl && { referenceKl: config.referenceKl }),
    ...(config.imitation && { imitation: { coefficient: config.imitation.coefficient } }),
  };
  const [B, T] = batch.shape;
  const kept: number[] = [];
  for (let i = 0; i < B * T; i++) if (batch.mask[i]! > 0) kept.push(i);
  const rowOf = (i: number) => Math.floor(i / T);
  const lengths = new Float64Array(B);
  for (const i of kept) lengths[rowOf(i)]!++;
  const { tokens, sequences, imitatedTokens } = tapoDenominators([batch], config);
  const feed = (of: (i: number) => number) => float32([kept.length], Float32Array.from(kept, of));
  const taken = (values: ArrayLike<number> | undefined) => feed((i) => values?.[i] ?? Number.NaN);
  const available: Record<string, HostTensor> = {
    log_probs: taken(batch.logProbs),
    old_log_probs: taken(batch.oldLogProbs),
    negative_log_probs: taken(batch.negativeLogProbs),
    reference_log_probs: taken(batch.referenceLogProbs),
    advantages: feed((i) => batch.advantages[rowOf(i)]!),
    token_weight: feed(() => 1 / tokens),
    weight: feed((i) => (config.averaging === 'token' ? 1 / tokens : 1 / lengths[rowOf(i)]! / sequences)),
    imitation_weight: feed((i) =>
      batch.accuracies![rowOf(i)]! > (config.imitation?.accuracyAbove ?? 1) ? 1 / imitatedTokens : 0,
    ),
  };
  const graph = new Graph();
  const logProbs = graph.parameter('log_probs', ['N']);
  const loss = tapoLossGraph(terms);
  const built = loss.build(graph, logProbs);
  const { dense } = backward(built.loss, [logProbs]);
  const program = await Program.compile(
    bareSource(runtime),
    graph,
    { total: built.loss, gradient: dense.get(logProbs)!, ...built.terms },
    { key: loss.key },
  );
  const feeds = Object.fromEntries(program.feeds.map(({ name }) => [name, available[name]!]));
  const result = await program.run(feeds);
  await program.release();
  const gradient = new Float64Array(B * T);
  kept.forEach((i, n) => {
    gradient[i] = Number(result['gradient']!.data[n]);
  });
  const termValue = (name: string) => (result[name] ? Number(result[name].data[0]) : undefined);
  return { termValue, gradient, inputs: program.feeds.map(({ name }) => name).sort() };
}

/** Everything that both give, with a tolerance that float32 needs. */
async function expectAgreement(batch: TapoBatch, config: Supported, factor = 1) {
  const want = tapoLoss(batch, config, { scheduleFactor: factor });
  const got = await graphLoss(batch, config, factor);
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

function configOf({ config }: Golden): Supported {
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

/** A token mask keeps the tokens with the greatest k of a sequence, and k is only known inside the graph. */
const isMasked = ({ config }: Golden) => config['use_kl_prcp_token_level_mask'] === true;
const SUPPORTED = Object.entries(goldens).filter(([, golden]) => !isMasked(golden));

describe('tapoLossGraph()', () => {
  it.each(SUPPORTED)('agrees with the recorded torch loss in the configuration %s', async (name, golden) => {
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
  });

  it('covers all recorded configurations but those with a token mask', () => {
    const masked = Object.entries(goldens).flatMap(([name, golden]) => (isMasked(golden) ? [name] : []));
    expect(SUPPORTED.length + masked.length).toBe(12);
    expect(masked.length).toBeGreaterThan(0);
    expect(masked.every((name) => name.includes('mask'))).toBe(true);
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

  it('takes its own log-probabilities as the old ones', async () => {
    const current = await graphLoss(recorded, FINE_R1_TAPO_LOSS as Supported, 1, 'current');
    const fed = await graphLoss({ ...recorded, oldLogProbs: recorded.logProbs }, FINE_R1_TAPO_LOSS as Supported);
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
    const { inputs } = await graphLoss(recorded, FINE_R1_TAPO_LOSS as Supported);
    expect(inputs).toContain('negative_log_probs');
  });
});
