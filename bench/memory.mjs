/**
 * Compares what the engine expects to take of memory with what it takes, each case in a process of its own.
 *
 *     npm run build && node bench/memory.mjs [CASE ...]
 *
 * Prints a line of JSON per case: peak resident memory, the estimate and its parts in MB, and by how much it is off.
 */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { loraLayer, loraParameters } from '../dist/src/engine/adapters/lora.js';
import { linearModules } from '../dist/src/engine/adapters/target-modules.js';
import { PLAIN_SAMPLING } from '../dist/src/engine/generate/plain-sampling.js';
import { WEIGHTED_NLL } from '../dist/src/engine/loss/weighted-nll.js';
import { buildBatch } from '../dist/src/engine/models/qwen2_5_vl/batch.js';
import { parseConfig } from '../dist/src/engine/models/qwen2_5_vl/config.js';
import { COMPUTING_BYTES, estimateMemory } from '../dist/src/engine/models/qwen2_5_vl/estimate.js';
import { createGenerator } from '../dist/src/engine/models/qwen2_5_vl/generator.js';
import { initialiseWeights } from '../dist/src/engine/models/qwen2_5_vl/initialise.js';
import { parameterSpecs } from '../dist/src/engine/models/qwen2_5_vl/parameters.js';
import { TrainingModel, zeroWeights } from '../dist/src/engine/models/qwen2_5_vl/training-model.js';
import { AdamW } from '../dist/src/engine/optim/adamw.js';
import { ParameterStore } from '../dist/src/engine/optim/parameter-store.js';
import { RandomStream } from '../dist/src/engine/random.js';
import { openRuntime } from '../dist/src/engine/session/open-runtime.js';
import { float32, sizeOf } from '../dist/src/engine/tensor.js';
import { MemoryWeights, ModelWeights } from '../dist/src/engine/weights/model-weights.js';
import { imagesOf, requestsOf, rowsOf, sourceOf } from './engine-inputs.mjs';
import { DEVICE_SIZES, GRID, IMAGE_TOKEN, makeInputs } from './scenarios.mjs';

/**
 * rows: of a micro-batch, of which an update sums `parts`, each with so many branches; prompts x samples of newTokens. dropout: an
 * adapter of rank 16 on all linear layers is trained with it, in the place of all weights.
 */
const CASES = {
  'train-5M': { size: '5M', rows: 24, parts: 1 },
  'train-40M': { size: '40M', rows: 24, parts: 1 },
  'train-200M': { size: '200M', rows: 24, parts: 1 },
  'accumulate-40M': { size: '40M', rows: 8, parts: 2 },
  'sample-5M': { size: '5M', prompts: 256, samples: 1, newTokens: 80 },
  'sample-40M': { size: '40M', prompts: 64, samples: 1, newTokens: 80 },
  'sample-200M': { size: '200M', prompts: 32, samples: 1, newTokens: 40 },
  'shared-40M': { size: '40M', prompts: 4, samples: 20, newTokens: 40 },
  'lora-5M': { size: '5M', rows: 24, parts: 1, dropout: 0 },
  'dropout-5M': { size: '5M', rows: 24, parts: 1, dropout: 0.05 },
  'dropout-40M': { size: '40M', rows: 24, parts: 1, dropout: 0.05 },
  'branches-5M': { size: '5M', rows: 19, parts: 1, branches: 5 },
  'branches-lora-5M': { size: '5M', rows: 19, parts: 1, branches: 5, dropout: 0 },
  'branches-dropout-5M': { size: '5M', rows: 19, parts: 1, branches: 5, dropout: 0.05 },
  'tapo-5M': { size: '5M', rows: 24, parts: 2, prompts: 32, samples: 8, newTokens: 40, readRows: 24 },
  'tapo-40M': { size: '40M', rows: 16, parts: 2, prompts: 16, samples: 4, newTokens: 40, readRows: 24 },
  'tapo-200M': { size: '200M', rows: 8, parts: 1, prompts: 8, samples: 4, newTokens: 20, readRows: 16 },
};

const MB = 1e6;
/** Calls of the generator, or updates: V8 collects what a call leaves only after some of them. */
const TURNS = 4;
const [first, ...others] = process.argv.slice(2);
if (first === '--case') console.log(JSON.stringify(await measure(others[0], CASES[others[0]])));
else {
  for (const name of first === undefined ? Object.keys(CASES) : [first, ...others]) {
    const child = spawnSync(process.execPath, [fileURLToPath(import.meta.url), '--case', name], { encoding: 'utf8' });
    process.stdout.write(child.status === 0 ? child.stdout : `${name}: ${child.stderr}\n`);
    if (child.status !== 0) process.exitCode = 1;
  }
}

async function measure(name, work) {
  const runtime = await openRuntime({ threads: 2 });
  const source = sourceOf(runtime);
  // Command line, tokenizer and image library are not there.
  const processBytes = process.memoryUsage.rss();
  const config = parseConfig(DEVICE_SIZES[work.size]);
  const { rows = 0, parts, branches = 1, prompts = 0, samples, newTokens, readRows = 0 } = work;
  const model = new TrainingModel(source, config, weightsOf(config, work), 'whole');
  initialiseWeights({ tensor: (name) => model.weights.find(name) }, config, 1);
  const count = Math.max(rows, readRows, prompts);
  const inputs = makeInputs(new RandomStream(1, 'memory'), count);
  const images = imagesOf(inputs.pixels, count);
  const batchOf = (size) => {
    const plain = rowsOf(inputs, size);
    const branched = plain.map((row) => ({
      ...row,
      branches: Array.from({ length: branches }, () => row.branches[0]),
    }));
    return buildBatch(config, branched, images.slice(0, size));
  };
  const sizesOf = (batch) => ({
    rows: batch.shape[0],
    tokens: batch.shape[1],
    targets: batch.targets.length,
    images: Array.from({ length: batch.shape[0] }, () => GRID),
  });
  const plan = {
    config,
    execution: 'whole',
    weights: model.weights,
    imageBytes: inputs.pixels.byteLength,
    ...(rows > 0 && { training: { ...sizesOf(batchOf(rows)), accumulates: parts > 1 } }),
    ...(readRows > 0 && { logProbs: sizesOf(batchOf(readRows)) }),
    ...(prompts > 0 && {
      generation: {
        prompt: { tokens: inputs.prompts[0].length, images: [GRID] },
        prompts,
        samplesPerPrompt: samples,
        maxNewTokens: newTokens,
      },
    }),
  };
  const { process: assumed, total, ...needs } = estimateMemory(plan);
  const taken = processBytes + COMPUTING_BYTES;
  const estimate = { process: taken, ...needs, total: total - assumed + taken };

  const generator = createGenerator(source, config, model.weights, { execution: 'whole' });
  const optimizer = await AdamW.create(source, model.store);
  const gradients = await model.gradientSum();
  for (let turn = 0; turn < TURNS; turn++) {
    if (prompts > 0) {
      await generator.generate(
        requestsOf(inputs, images, prompts),
        {
          ...PLAIN_SAMPLING,
          maxNewTokens: newTokens,
          bannedTokenIds: [IMAGE_TOKEN],
          samplesPerRequest: samples,
        },
        {},
      );
    }
    if (readRows > 0) await model.logProbs(batchOf(readRows));
    if (rows === 0) continue;
    gradients.clear();
    for (let part = 0; part < parts; part++) {
      const batch = batchOf(rows);
      const weight = float32([batch.targets.length], new Float32Array(batch.targets.length).fill(1e-3));
      await gradients.add((into) => model.lossAndGradients(batch, WEIGHTED_NLL, { weight }, into, { noise: [turn] }));
    }
    await gradients.clip(1);
    await optimizer.step(gradients.value, 1e-4);
  }
  const peak = process.resourceUsage().maxRSS * 1024;
  await generator.release();
  await model.release();
  await optimizer.release();
  await runtime.close();
  return {
    case: name,
    peak: Math.round(peak / MB),
    estimate: Math.round(estimate.total / MB),
    off: `${(100 * (estimate.total / peak - 1)).toFixed(1)} %`,
    parts: Object.fromEntries(Object.entries(estimate).map(([part, bytes]) => [part, Math.round(bytes / MB)])),
  };
}

/** All weights are trained, or an adapter beside them. */
function weightsOf(config, { dropout }) {
  if (dropout === undefined) return zeroWeights(config);
  const specs = parameterSpecs(config);
  const modules = linearModules(specs);
  const layer = loraLayer({ rank: 16, alpha: 32, dropout, isRankStabilised: false });
  const layers = new Map(modules.map(({ name }) => [name, layer]));
  const frozen = specs.map(({ name, shape }) => [name, float32(shape, new Float32Array(sizeOf(shape)))]);
  return new ModelWeights(new ParameterStore(loraParameters(modules, layers)), new MemoryWeights(frozen), layers);
}
