/** Layer by layer against the whole graph, over the same weights: what is trained, how it is stored, and where it lies vary. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fixture } from '../../../../test/helpers/fixtures.ts';
import { bareSource } from '../../../../test/helpers/session-source.ts';
import { loraLayer, loraParameters } from '../../adapters/lora.ts';
import { linearModules } from '../../adapters/target-modules.ts';
import type { ImagePatches } from '../../generate/types.ts';
import { WEIGHTED_NLL } from '../../loss/weighted-nll.ts';
import { ParameterStore } from '../../optim/parameter-store.ts';
import { RandomStream } from '../../random.ts';
import { openRuntime } from '../../session/open-runtime.ts';
import type { Runtime } from '../../session/runtime.ts';
import { openCheckpoint, saveCheckpoint } from '../../weights/checkpoint.ts';
import { MappedWeights } from '../../weights/mapped-weights.ts';
import { ModelWeights } from '../../weights/model-weights.ts';
import { buildBatch, type Row } from './batch.ts';
import { createGenerator } from './generator.ts';
import type { ParameterSpec } from './parameters.ts';
import { TrainingModel, trainedParameter } from './training-model.ts';

let runtime: Runtime;
let narrow: string;
beforeAll(async () => {
  runtime = await openRuntime({ threads: 1 });
  const { rawConfig: config, parameters, read } = openCheckpoint(fixture('qwen2_5_vl', 'tiny_tied'));
  narrow = await mkdtemp(join(tmpdir(), 'fr1-layered-'));
  const tensors = parameters.map(({ name, shape }) => ({ name, shape, load: () => read(name) }));
  await saveCheckpoint(narrow, { config, tensors, dtype: 'bfloat16' });
});

function open(name: string) {
  return openCheckpoint(name === 'bfloat16' ? narrow : fixture('qwen2_5_vl', name));
}
afterAll(async () => {
  await runtime.close();
  await rm(narrow, { recursive: true });
});

const stream = new RandomStream(7, 'layered test');

function image(height: number, width: number): ImagePatches {
  const pixels = Float32Array.from({ length: height * width * 1176 }, () => stream.normal());
  return { grid: [1, height, width], pixels };
}

/** Two prompts of different length, one without an image, one with two answers. */
function batchOf(imageId: number, images: readonly ImagePatches[], config: Parameters<typeof buildBatch>[0]) {
  const rows: Row[] = [
    {
      prefix: [5, ...images.flatMap(({ grid }) => new Array(grid[1] * grid[2] * 0.25).fill(imageId)), 9, 10],
      images: images.map((_, i) => i),
      branches: [{ ids: [11, 12, 13] }, { ids: [14, 15], isTarget: [0, 1] }],
    },
    { prefix: [7, 8], images: [], branches: [{ ids: [20, 21, 22, 23, 24] }] },
  ];
  return buildBatch(config, rows, images);
}

type Chosen = (parameter: ParameterSpec) => boolean;

/** Trained weights in float32, the others mapped in the type in which the file has them. */
function weightsOf(name: string, isTrained: Chosen, rank = 0): ModelWeights {
  const checkpoint = open(name);
  const trained = checkpoint.parameters.filter(isTrained);
  const modules =
    rank === 0 ? [] : linearModules(checkpoint.parameters).filter(({ name }) => /q_proj|down_proj|qkv/.test(name));
  const layers = new Map(
    modules.map((module) => [module.name, loraLayer({ rank, alpha: 2 * rank, dropout: 0, isRankStabilised: false })]),
  );
  const store = new ParameterStore([...trained.map(trainedParameter), ...loraParameters(modules, layers)]);
  for (const { name: lora } of loraParameters(modules, layers)) {
    const { data } = store.tensor(lora);
    for (let i = 0; i < data.length; i++) data[i] = 0.1 * stream.normal();
  }
  for (const { name: parameter } of trained) checkpoint.readFloat32(parameter, store.tensor(parameter).data);
  const frozen = checkpoint.parameters.filter((each) => !isTrained(each)).map((each) => each.name);
  return new ModelWeights(store, new MappedWeights(checkpoint, frozen), layers);
}

type Pictures = readonly (readonly [height: number, width: number])[];

const EQUAL: Pictures = [
  [4, 8],
  [4, 8],
];
const UNEQUAL: Pictures = [
  [6, 4],
  [2, 10],
];

const CASES: readonly (readonly [what: string, fixture: string, isTrained: Chosen, rank: number, Pictures])[] = [
  ['all weights, tied head', 'tiny_tied', () => true, 0, UNEQUAL],
  ['all weights, own head, no image', 'tiny_untied', () => true, 0, []],
  ['the language model', 'tiny_untied', ({ tower }) => tower === 'text', 0, EQUAL],
  ['the projector', 'tiny_tied', ({ tower }) => tower === 'projector', 0, EQUAL],
  ['the upper layers', 'tiny_tied', ({ name }) => /layers\.[12]\.|model\.norm/.test(name), 0, UNEQUAL],
  ['some blocks of the vision tower', 'tiny_tied', ({ name }) => /blocks\.[23]\.mlp/.test(name), 0, EQUAL],
  ['adapters over bfloat16', 'bfloat16', () => false, 4, UNEQUAL],
];

/** Not 1, so that it has to reach both. */
const TEMPERATURE = 0.8;

describe('LayeredModel', () => {
  it.each(CASES)(
    'gives the log-probabilities, loss and gradients of the whole graph: %s',
    async (_, name, isTrained, rank, pictures) => {
      const { config } = open(name);
      const weights = weightsOf(name, isTrained, rank);
      const images = pictures.map(([height, width]) => image(height, width));
      const batch = batchOf(config.imageTokenId, images, config);
      const count = batch.targets.length;
      const weight = { dtype: 'float32', shape: [count], data: new Float32Array(count).fill(1 / count) } as const;
      const of = async (execution: 'whole' | 'layered') => {
        const model = new TrainingModel(bareSource(runtime), config, weights, execution, TEMPERATURE);
        const gradients = model.store.buffer().fill(Number.NaN);
        const logProbs = await model.logProbs(batch);
        const { loss } = await model.lossAndGradients(batch, WEIGHTED_NLL, { weight }, gradients);
        await model.release();
        return { logProbs, loss, gradients };
      };
      const whole = await of('whole');
      const layered = await of('layered');
      expect(largest(whole.logProbs, layered.logProbs)).toBeLessThan(1e-5);
      expect(layered.loss).toBeCloseTo(whole.loss, 5);
      const scale = whole.gradients.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
      expect(scale).toBeGreaterThan(0);
      expect(largest(whole.gradients, layered.gradients)).toBeLessThanOrEqual(1e-5 * scale);
    },
  );

  it.each([1, 1.3])('samples what the whole graph samples (repetition penalty %f)', async (repetitionPenalty) => {
    const { config } = openCheckpoint(fixture('qwen2_5_vl', 'tiny_tied'));
    const weights = weightsOf('tiny_tied', () => false, 4);
    const picture = image(6, 8);
    const requests = [
      { inputIds: Int32Array.from([5, ...new Array(12).fill(config.imageTokenId), 9]), images: [picture], seed: 1 },
      { inputIds: Int32Array.from([7, 8, 9]), images: [], seed: 2 },
    ];
    const of = async (execution: 'whole' | 'layered') => {
      const generator = createGenerator(bareSource(runtime), config, weights, { execution });
      const completions = await generator.generate(
        requests,
        {
          maxNewTokens: 12,
          temperature: 1,
          topP: 0.9,
          topK: 0,
          repetitionPenalty,
          stopTokenIds: [3],
          bannedTokenIds: [],
          samplesPerRequest: 3,
        },
        {},
      );
      await generator.release();
      return completions;
    };
    expect(await of('layered')).toEqual(await of('whole'));
  });
});

function largest(a: Float32Array, b: Float32Array): number {
  let most = a.length === b.length ? 0 : Number.NaN;
  for (let i = 0; i < a.length; i++) {
    const difference = Math.abs(a[i]! - b[i]!);
    if (!(difference <= most)) most = difference;
  }
  return most;
}
