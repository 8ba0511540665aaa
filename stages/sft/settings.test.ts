import { describe, expect, it } from 'vitest';
import { SFT_PRESETS } from '../../src/methods/sft-presets.ts';
import { loadStageSchema } from '../../src/run/load-schema.ts';
import { resolveSettings, type SettingOptions } from './settings.ts';

const { properties } = loadStageSchema(import.meta.url);
const resolve = (options: Partial<SettingOptions>) => resolveSettings({ preset: 'sft', set: 'sound', ...options });

describe('resolveSettings()', () => {
  it.each(['fine-r1-3b', 'fine-r1-7b'] as const)('takes the values of the released script of %s', (preset) => {
    expect(resolve({ preset })).toEqual({
      length: { epochs: 10 },
      batchSize: 64,
      microBatchSize: 4,
      learningRate: 5e-6,
      schedule: 'cosine',
      warmupSteps: 6,
      weightDecay: 0.1,
      maxGradNorm: 1,
      maxTokens: 4096,
      minPixels: 1024,
      maxPixels: 589_824,
      lossNormalisation: 'step',
    });
    expect(properties['trainable']!['default']).toEqual({ vision: false, projector: false, text: true });
  });

  it('lets each option win over the preset', () => {
    expect(resolve({ preset: 'fine-r1-3b', steps: 3, warmupSteps: 0, maxPixels: 3136 })).toMatchObject({
      length: { steps: 3 },
      warmupSteps: 0,
      maxPixels: 3136,
      minPixels: 1024,
    });
    expect(resolve({ preset: 'fine-r1-3b', epochs: 2 }).length).toEqual({ epochs: 2 });
    expect(resolve({}).length).toBeNull();
  });

  it('takes the normalisation of the loss from the set of switches', () => {
    expect(resolve({ set: 'reference' }).lossNormalisation).toBe('micro');
    expect(resolve({ set: 'reference', lossNormalisation: 'step' }).lossNormalisation).toBe('step');
  });

  it('offers every preset in the schema', () => {
    expect(properties['preset']!['enum']).toEqual(Object.keys(SFT_PRESETS));
  });
});
