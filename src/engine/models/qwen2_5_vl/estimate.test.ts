import { describe, expect, it } from 'vitest';
import { fixture } from '../../../../test/helpers/fixtures.ts';
import { openModelFolder } from '../../adapters/model-folder.ts';
import { ALL_LINEAR } from '../../adapters/target-modules.ts';
import { openCheckpoint } from '../../weights/checkpoint.ts';
import { cacheBytesPerToken } from './decoder.ts';
import { estimateMemory, type MemoryPlan } from './estimate.ts';
import { wholeWeights } from './open-training-model.ts';
import { plannedWeights } from './planned-weights.ts';
import { requireMemory, usableMemory } from './require-memory.ts';

const base = openCheckpoint(fixture('qwen2_5_vl', 'tiny_untied'));
const text = { vision: false, projector: false, text: true };
const plan: MemoryPlan = {
  config: base.config,
  execution: 'whole',
  weights: wholeWeights(base, text),
  training: { rows: 4, tokens: 500, targets: 1200, images: [[1, 8, 8]], accumulates: true },
};
const generation = { prompt: { tokens: 300, images: [] }, prompts: 2, samplesPerPrompt: 2, maxNewTokens: 50 };

describe('estimateMemory()', () => {
  it('counts weights, optimiser, images, activations and cache', () => {
    const parts = estimateMemory({ ...plan, imageBytes: 1000 });
    const of = (isText: boolean) =>
      base.parameters
        .filter(({ tower }) => (tower === 'text') === isText)
        .reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
    expect(parts.frozenWeights).toBe(4 * of(false));
    // Weights, gradients, their sum, two moments.
    expect(parts.trainedWeights).toBe(5 * 4 * of(true));
    expect(parts.images).toBe(1000);
    expect(parts.cache).toBe(0);
    const { total, ...rest } = parts;
    expect(total).toBe(Object.values(rest).reduce((a, b) => a + b));
  });

  it('grows with the batch, and needs less for activations layer by layer', () => {
    const { activations } = estimateMemory(plan);
    const twice = estimateMemory({ ...plan, training: { ...plan.training!, rows: 8, targets: 2400 } });
    expect(twice.activations / activations).toBeGreaterThan(1.8);
    expect(estimateMemory({ ...plan, execution: 'layered' }).activations).toBeLessThan(activations);
  });

  it('adds up what whole graphs keep, where the pieces of a layered model take turns', () => {
    const { training, ...model } = plan;
    const logProbs = training!;
    for (const execution of ['whole', 'layered'] as const) {
      const of = (work: Partial<MemoryPlan>) => estimateMemory({ ...model, execution, ...work }).activations;
      const [alone, read, both] = [
        of({ training: training! }),
        of({ logProbs }),
        of({ training: training!, logProbs }),
      ];
      expect(read).toBeLessThan(alone);
      expect(both).toBeCloseTo(execution === 'whole' ? alone + read : alone);
    }
  });

  it('holds the cache of the sequences that are decoded together, a shared prompt once', () => {
    const perToken = cacheBytesPerToken(base.config);
    const cacheOf = (changes: Partial<typeof generation>, limits = {}) =>
      estimateMemory({ ...plan, generation: { ...generation, ...changes, limits } }).cache / perToken;
    expect(cacheOf({})).toBe(4 * 349);
    expect(cacheOf({ samplesPerPrompt: 8 })).toBe(2 * 299 + 16 * 50);
    expect(cacheOf({ prompts: 100, samplesPerPrompt: 1 }, { maxBatch: 6 })).toBe(6 * 349);
    expect(cacheOf({ prompts: 100, samplesPerPrompt: 1 }, { maxCacheBytes: 3.5 * 350 * perToken })).toBe(3 * 349);
    // Groups are not torn.
    expect(cacheOf({ prompts: 100 }, { maxBatch: 7 })).toBe(6 * 349);
  });
});

describe('plannedWeights()', () => {
  it('knows without reading them what opened weights are', () => {
    const folder = openModelFolder(base.dir);
    const planned = plannedWeights(folder, { kind: 'full', towers: text });
    expect(planned.frozenBytes).toBe(plan.weights.frozenBytes);
    expect(planned.trained.parameters).toEqual(plan.weights.trained.parameters);
    expect(estimateMemory({ ...plan, weights: planned })).toEqual(estimateMemory(plan));
  });

  it('counts an adapter as trained and its base as frozen', () => {
    const settings = { rank: 2, alpha: 4, dropout: 0, isRankStabilised: false };
    const lora = { kind: 'lora', towers: text, settings, targetModules: ALL_LINEAR, seed: 1 } as const;
    const planned = plannedWeights(openModelFolder(base.dir), lora);
    const total = base.parameters.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
    expect(planned.frozenBytes).toBe(4 * total);
    expect(planned.trained.parameters.every(({ name }) => name.includes('.lora_'))).toBe(true);
    expect(planned.adapterOf('model.layers.0.self_attn.q_proj')?.rank).toBe(2);
    expect(plannedWeights(openModelFolder(base.dir), null).trained.parameters).toEqual([]);
  });
});

describe('requireMemory()', () => {
  it('names what takes the memory and which options make it smaller, the largest first', () => {
    const gib = 1024 ** 3;
    const parts = {
      process: gib,
      frozenWeights: 7 * gib,
      otherWeights: 0,
      trainedWeights: 40 * gib,
      images: 0,
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
