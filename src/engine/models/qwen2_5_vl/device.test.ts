/**
 * Training and generation on a device of their own memory, against the CPU. Every graph must run without falling back to
 * the CPU. Where no WebGPU adapter is found these tests are skipped.
 */

import { afterAll, describe, expect, it } from 'vitest';
import { webGpuSource } from '../../../../test/helpers/device-source.ts';
import { fixture } from '../../../../test/helpers/fixtures.ts';
import { bareSource } from '../../../../test/helpers/session-source.ts';
import { temporaryFolder } from '../../../../test/helpers/temporary-folder.ts';
import { startAdapter } from '../../adapters/lora.ts';
import { linearModules } from '../../adapters/target-modules.ts';
import { PLAIN_SAMPLING } from '../../generate/plain-sampling.ts';
import type { Completion, GenerationRequest, Generator, ImagePatches } from '../../generate/types.ts';
import { tapoLossGraph } from '../../loss/tapo.ts';
import { WEIGHTED_NLL } from '../../loss/weighted-nll.ts';
import { AdamW } from '../../optim/adamw.ts';
import type { SessionSource } from '../../program.ts';
import { RandomStream } from '../../random.ts';
import { openRuntime } from '../../session/open-runtime.ts';
import { float32 } from '../../tensor.ts';
import { openCheckpoint, saveCheckpoint } from '../../weights/checkpoint.ts';
import { MemoryWeights, ModelWeights } from '../../weights/model-weights.ts';
import { type Batch, buildBatch, type Row } from './batch.ts';
import type { Qwen25VLConfig } from './config.ts';
import { createGenerator, type GeneratorOptions } from './generator.ts';
import { adaptedWeights } from './open-training-model.ts';
import { TrainingModel } from './training-model.ts';

const runtime = await openRuntime({ threads: 1 });
const webGpu = await webGpuSource(runtime);
const cpu = bareSource(runtime);
afterAll(() => runtime.close());

/** Compiling shaders takes most of the time, on lavapipe on first use up to a minute. */
const LIMIT_MS = 240_000;

function image(seed: number, height: number, width: number): ImagePatches {
  const stream = new RandomStream('device', seed);
  return {
    grid: [1, height, width],
    pixels: Float32Array.from({ length: height * width * 1176 }, () => stream.normal()),
  };
}

/** Two rows with images of equal or different sizes, or of text only; tokens repeat. */
function batchOf(config: Qwen25VLConfig, images: readonly ImagePatches[]): Batch {
  const rows = [0, 1].map((i): Row => {
    const own = images[i];
    const units = own === undefined ? 0 : (own.grid[1] * own.grid[2]) / 4;
    const shown = own
      ? [config.visionStartTokenId, ...new Array(units).fill(config.imageTokenId), config.visionEndTokenId]
      : [];
    return {
      prefix: [5, ...shown, 9, 9],
      images: own ? [i] : [],
      branches: [{ ids: [11, 12, 13, 11] }, { ids: [21, 11 + i] }],
    };
  });
  return buildBatch(config, rows, images);
}

const BATCHES: readonly [string, readonly ImagePatches[]][] = [
  ['images of one size', [image(1, 8, 8), image(2, 8, 8)]],
  ['images of two sizes', [image(1, 8, 8), image(3, 6, 10)]],
  ['text only', []],
];

const TAPO = tapoLossGraph({
  clipLow: 0.2,
  clipHigh: 0.28,
  dualClip: 3,
  negativeKl: { coefficient: 0.01, estimator: 'k3', clip: 10 },
  negativeEntropy: { coefficient: 0.01 },
  ownEntropy: { coefficient: 0.01 },
});

describe.skipIf(webGpu === undefined)('a model on WebGPU', () => {
  it.each(['tiny_tied', 'tiny_untied'])(
    'trains %s as on the CPU: losses, norms and weights of several updates',
    async (name) => {
      const checkpoint = openCheckpoint(fixture('qwen2_5_vl', name));
      const [here, there] = [await train(cpu, checkpoint), await train(webGpu!, checkpoint)];
      for (const [i, loss] of here.losses.entries()) expect(there.losses[i]! / loss).toBeCloseTo(1, 5);
      for (const [i, norm] of here.norms.entries()) expect(there.norms[i]! / norm).toBeCloseTo(1, 4);
      let squares = 0;
      let distance = 0;
      here.weights.forEach((value, i) => {
        squares += (value - here.start[i]!) ** 2;
        distance += (value - there.weights[i]!) ** 2;
      });
      expect(squares).toBeGreaterThan(0);
      expect(Math.sqrt(distance / squares)).toBeLessThan(2e-2);
    },
    LIMIT_MS,
  );

  it.each([
    ['all prompts at once', {}],
    ['few at a time, and batches that shrink early', { maxBatch: 4, maxPrefillTokens: 40, compactBelow: 1 }],
  ])(
    'draws the same tokens as on the CPU with %s',
    async (_, options) => {
      const [here, there] = [await generate(cpu, options), await generate(webGpu!, options)];
      expect(here.flat().some(({ finishReason }) => finishReason === 'stop')).toBe(true);
      expect(tokensOf(there)).toEqual(tokensOf(here));
    },
    LIMIT_MS,
  );
});

describe.skipIf(webGpu === undefined)('a generator on WebGPU', () => {
  it(
    'follows training',
    async () => {
      const { checkpoint, config, parameters } = loaded();
      const model = new TrainingModel(webGpu!, config);
      for (const { name } of parameters) checkpoint.readFloat32(name, model.store.tensor(name).data);
      const before = await generate(webGpu!, {}, model.weights);
      const generator = createGenerator(webGpu!, config, model.weights);
      const optimizer = await AdamW.create(webGpu!, model.store);
      const gradients = await model.gradientSum();
      const answers = [];
      for (let step = 0; step < 2; step++) {
        answers.push(await answer(generator, config));
        gradients.clear();
        const batch = batchOf(config, []);
        const weight = float32([batch.targets.length], new Float32Array(batch.targets.length).fill(0.1));
        await gradients.add((into) => model.lossAndGradients(batch, WEIGHTED_NLL, { weight }, into));
        await optimizer.step(gradients.value, 0.05, { hasImages: batch.visionKind !== null });
      }
      answers.push(await answer(generator, config));
      await model.store.pull();
      const copy = new MemoryWeights(parameters.map(({ name }) => [name, model.store.tensor(name)]));
      expect(answers[0]).toEqual(before);
      expect(tokensOf(answers[2]!)).not.toEqual(tokensOf(answers[0]!));
      expect(tokensOf(answers[2]!)).toEqual(tokensOf(await generate(cpu, {}, ModelWeights.frozen(copy))));
      await generator.release();
      await optimizer.release();
      await model.release();
    },
    LIMIT_MS,
  );
});

describe.skipIf(webGpu === undefined)('a large model in 16 bits on WebGPU', () => {
  it(
    'draws the same tokens as on the CPU, and trains an adapter with dropout',
    async () => {
      const { checkpoint, config, parameters } = loaded();
      const folder = await temporaryFolder();
      const tensors = parameters.map(({ name, shape }) => ({ name, shape, load: () => checkpoint.readFloat32(name) }));
      await saveCheckpoint(folder, { config: checkpoint.rawConfig, tensors, dtype: 'bfloat16' });
      const stored = openCheckpoint(folder);
      const modules = linearModules(parameters);
      const lora = startAdapter(modules, { rank: 2, alpha: 4, dropout: 0.2, isRankStabilised: false }, 1);
      const results = [];
      for (const source of [cpu, webGpu!]) {
        const execution = source === cpu ? 'whole' : 'layered';
        const weights = adaptedWeights(stored, lora, execution, source.provider);
        const model = new TrainingModel(source, config, weights, 'whole');
        const gradients = await model.gradientSum();
        const batch = batchOf(config, []);
        const weight = float32([batch.targets.length], new Float32Array(batch.targets.length).fill(0.1));
        const { loss } = await gradients.add((into) =>
          model.lossAndGradients(batch, WEIGHTED_NLL, { weight }, into, { noise: ['test'] }),
        );
        results.push({ loss, norm: await gradients.clip(1), tokens: tokensOf(await generate(source, {}, weights)) });
        await model.release();
      }
      const [here, there] = results as [(typeof results)[0], (typeof results)[0]];
      expect(here.norm).toBeGreaterThan(0);
      expect(there.loss / here.loss).toBeCloseTo(1, 5);
      expect(there.norm / here.norm).toBeCloseTo(1, 4);
      expect(there.tokens).toEqual(here.tokens);
    },
    LIMIT_MS,
  );
});

function tokensOf(completions: readonly (readonly Completion[])[]) {
  return completions.map((samples) => samples.map(({ tokenIds }) => tokenIds));
}

function loaded() {
  const checkpoint = openCheckpoint(fixture('qwen2_5_vl', 'tiny_untied'));
  const { config, parameters } = checkpoint;
  const read = (name: string) => [name, checkpoint.readFloat32(name)] as const;
  return {
    checkpoint,
    config,
    parameters,
    weights: () => ModelWeights.frozen(new MemoryWeights(parameters.map(({ name }) => read(name)))),
  };
}

async function generate(source: SessionSource, options: GeneratorOptions, weights = loaded().weights()) {
  const { config } = loaded();
  const generator = createGenerator(source, config, weights, options);
  const completions = await answer(generator, config);
  await generator.release();
  return completions;
}

/** Three samples each of prompts of different lengths, some of which end early. */
function answer(generator: Generator, config: Qwen25VLConfig) {
  const requests = [0, 1, 2, 3].map((i): GenerationRequest => {
    const images = i === 0 ? [] : [image(i, 8, i === 2 ? 12 : 8)];
    const slots = images.flatMap(({ grid }) => new Array<number>((grid[1] * grid[2]) / 4).fill(config.imageTokenId));
    const shown = slots.length === 0 ? [] : [config.visionStartTokenId, ...slots, config.visionEndTokenId];
    return { inputIds: Int32Array.from([5, ...shown, 9, 10 + i]), images, seed: i };
  });
  const vocabulary = config.text.vocabSize;
  return generator.generate(
    requests,
    {
      maxNewTokens: 12,
      ...PLAIN_SAMPLING,
      stopTokenIds: Array.from({ length: Math.floor(vocabulary / 8) }, (__, i) => 8 * i),
      bannedTokenIds: [config.imageTokenId],
      samplesPerRequest: 3,
    },
    {},
  );
}

async function train(source: SessionSource, checkpoint: ReturnType<typeof openCheckpoint>) {
  const { config } = checkpoint;
  const model = new TrainingModel(source, config);
  for (const { name } of checkpoint.parameters) checkpoint.readFloat32(name, model.store.tensor(name).data);
  const start = model.store.flat.slice();
  const optimizer = await AdamW.create(source, model.store, { weightDecay: 0.1 });
  const gradients = await model.gradientSum();
  const losses: number[] = [];
  const norms: number[] = [];
  for (let step = 0; step < 4; step++) {
    gradients.clear();
    // The last update has no image.
    const hasImages = step < 3;
    for (const [, images] of BATCHES.slice(hasImages ? step % 2 : 2)) {
      const batch = batchOf(config, images);
      const weight = float32([batch.targets.length], new Float32Array(batch.targets.length).fill(0.1));
      const { loss } = await gradients.add((into) => model.lossAndGradients(batch, WEIGHTED_NLL, { weight }, into));
      losses.push(loss);
    }
    norms.push(await gradients.clip(step < 2 ? 1 : 1e9));
    await optimizer.step(gradients.value, 1e-3, { hasImages });
  }
  const batch = batchOf(config, BATCHES[0]![1]);
  const logProbs = await model.logProbs(batch);
  const perToken = (value: (i: number) => number) =>
    float32(
      [logProbs.length],
      logProbs.map((_, i) => value(i)),
    );
  const inputs = {
    advantages: perToken((i) => (i % 2 ? 1 : -0.5)),
    weight: perToken(() => 0.1),
    token_weight: perToken(() => 0.1),
    old_log_probs: perToken((i) => logProbs[i]! + 0.1 * (i % 5) - 0.2),
    negative_log_probs: perToken((i) => logProbs[i]! - 0.1 * (i % 3)),
  };
  gradients.clear();
  const { loss, terms } = await gradients.add((into) => model.lossAndGradients(batch, TAPO, inputs, into));
  losses.push(loss, ...Object.values(terms).map(({ data }) => 1 + Number(data[0])));
  norms.push(await gradients.clip(1));
  await model.store.pull();
  await optimizer.pull();
  await model.release();
  await optimizer.release();
  return { losses, norms, start, weights: model.store.flat };
}
