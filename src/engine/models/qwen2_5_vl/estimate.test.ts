import { describe, expect, it } from 'vitest';
import { fixture } from '../../../../test/helpers/fixtures.ts';
import { openCheckpoint } from '../../weights/checkpoint.ts';
import { estimateMemory, type MemoryPlan } from './estimate.ts';
import { wholeWeights } from './open-training-model.ts';
import { requireMemory, usableMemory } from './require-memory.ts';

const base = openCheckpoint(fixture('qwen2_5_vl', 'tiny_untied'));
const plan: MemoryPlan = {
  config: base.config,
  execution: 'whole',
  weights: wholeWeights(base, { vision: false, projector: false, text: true }),
  training: { rows: 4, tokens: 500, targets: 1200, images: [[1, 8, 8]], accumulates: true },
};
const generation = { prompts: { rows: 2, tokens: 300, targets: 2, images: [] }, sequences: 8, maxNewTokens: 50 };

describe('estimateMemory()', () => {
  it('counts weights, optimiser, activations and cache', () => {
    const parts = estimateMemory(plan);
    const of = (isText: boolean) =>
      base.parameters
        .filter(({ tower }) => (tower === 'text') === isText)
        .reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
    expect(parts.frozenWeights).toBe(4 * of(false));
    // Weights, gradients, their sum, two moments.
    expect(parts.trainedWeights).toBe(5 * 4 * of(true));
    expect(parts.cache).toBe(0);
    const { total, ...rest } = parts;
    expect(total).toBe(Object.values(rest).reduce((a, b) => a + b));
    expect(estimateMemory({ ...plan, generation }).cache).toBeGreaterThan(0);
  });

  it('grows with the batch, and needs less for activations layer by layer', () => {
    const { activations } = estimateMemory(plan);
    const twice = estimateMemory({ ...plan, training: { ...plan.training!, rows: 8, targets: 2400 } });
    expect(twice.activations / activations).toBeGreaterThan(1.8);
    expect(estimateMemory({ ...plan, execution: 'layered' }).activations).toBeLessThan(activations);
  });
});

describe('requireMemory()', () => {
  it('names what takes the memory and which options make it smaller, the largest first', () => {
    const gib = 1024 ** 3;
    const parts = {
      process: gib,
      frozenWeights: 7 * gib,
      trainedWeights: 40 * gib,
      batch: 0,
      activations: 2 * gib,
      cache: 0,
    };
    const estimate = { ...parts, total: 50 * gib };
    const knobs = { trainedWeights: 'train an adapter', activations: 'lower microBatchSize', cache: 'fewer answers' };
    expect(() => requireMemory('this training', estimate, knobs, 50 * gib)).not.toThrow();
    expect(() => requireMemory('this training', estimate, knobs, 24 * gib)).toThrow(
      expect.objectContaining({
        code: 'MEMORY_SHORT',
        message: expect.stringMatching(/about 50\.0 GiB, of 24\.0 GiB that there are:\n +40\.0 GiB {2}trained weights/),
        hint: 'train an adapter; lower microBatchSize',
      }),
    );
    expect(usableMemory()).toBeGreaterThan(0.5 * gib);
  });
});
