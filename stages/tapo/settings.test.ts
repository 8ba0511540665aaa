import { describe, expect, it } from 'vitest';
import { TAPO_PRESETS } from '../../src/methods/tapo-presets.ts';
import { loadStageSchema } from '../../src/run/load-schema.ts';
import type { TapoOptions } from './options.ts';
import { advantagesOf, filledOptions, resolveSettings } from './settings.ts';

const resolve = (options: Partial<TapoOptions>) =>
  resolveSettings({ preset: 'tapo', imitation: null, ...options } as TapoOptions);

describe('resolveSettings()', () => {
  it('Q18: takes the values of the released scripts', () => {
    expect(resolve({ preset: 'fine-r1-3b' })).toMatchObject({
      groupsPerStep: 384,
      questionsPerDraw: 128,
      rollouts: 5,
      updatesPerStep: 3,
      topP: 0.99,
      temperature: 1,
      maxNewTokens: 2048,
      learningRate: 1e-6,
      weightDecay: 0.01,
      minPixels: 200_704,
      maxPixels: 1_003_520,
      length: { epochs: 10 },
      filter: { above: 0.01, below: 0.99 },
      loss: {
        clipLow: 0.2,
        clipHigh: 0.28,
        dualClip: 3,
        negativeKl: { coefficient: 0.01, estimator: 'k3' },
        negativeEntropy: { coefficient: 0.03 },
        ownEntropy: { coefficient: 0.03 },
      },
    });
    expect(resolve({ preset: 'fine-r1-7b' })).toMatchObject({
      groupsPerStep: 192,
      questionsPerDraw: 64,
      length: { epochs: 5 },
    });
  });

  it('lets each option win over the preset', () => {
    const settings = resolve({ preset: 'fine-r1-7b', steps: 3, negativeKl: 0, ownEntropy: null, rollouts: 2 });
    expect(settings).toMatchObject({ length: { steps: 3 }, rollouts: 2 });
    expect(settings.loss).toEqual({
      clipLow: 0.2,
      clipHigh: 0.28,
      dualClip: 3,
      negativeEntropy: { coefficient: 0.03 },
    });
    expect(resolve({ preset: 'papo', views: { negative: 'other-class' } }).views).toEqual({
      positive: 'none',
      negative: 'other-class',
    });
  });

  it('leaves terms on an absent negative image out', () => {
    const { loss } = resolve({ views: { negative: 'none' }, negativeEntropy: 0.1 });
    expect(loss).not.toHaveProperty('negativeKl');
    expect(loss).not.toHaveProperty('negativeEntropy');
  });

  it('reads fading as a factor', () => {
    const negativeKl = { coefficient: 0.02, estimator: 'k3', fadeTo: 0.005, fadeShare: 0.5 } as const;
    expect(resolve({ negativeKl }).fading).toEqual({ to: 0.25, share: 0.5 });
  });

  it('offers every preset in the schema', () => {
    const preset = loadStageSchema(import.meta.url).properties['preset'];
    expect(preset!['enum']).toEqual(Object.keys(TAPO_PRESETS));
  });
});

describe('advantagesOf()', () => {
  it('gives each group its own', () => {
    const groups = [
      { rewards: [1, 0], lengths: [2, 3] },
      { rewards: [1, 1, 0], lengths: [1, 1, 1] },
    ];
    expect(advantagesOf(groups, 'leave-one-out').map((values) => [...values])).toEqual([
      [1, -1],
      [0.5, 0.5, -1],
    ]);
    expect(advantagesOf(groups, 'reinforce++').map(({ length }) => length)).toEqual([2, 3]);
  });
});

describe('filledOptions()', () => {
  const fill = (options: Partial<TapoOptions>) =>
    filledOptions({ preset: 'tapo', imitation: null, ...options } as TapoOptions);

  it('tells by the names of the options what preset and options come to', () => {
    expect(fill({ preset: 'grpo', steps: 3, rollouts: 8 })).toMatchObject({
      ...{ steps: 3, rollouts: 8, clipHigh: 0.2, filter: null, lossAveraging: 'sequence', ownEntropy: null },
      ...{ negativeKl: null, referenceKl: { coefficient: 0.04, estimator: 'k3' } },
    });
    expect(fill({ preset: 'fine-r1-3b' })).toMatchObject({ epochs: 10, negativeEntropy: 0.03 });
  });

  it('names nothing that is no option', () => {
    const { properties } = loadStageSchema(import.meta.url);
    for (const preset of Object.keys(TAPO_PRESETS) as TapoOptions['preset'][]) {
      expect(Object.keys(properties)).toEqual(expect.arrayContaining(Object.keys(fill({ preset, steps: 1 }))));
    }
  });
});
