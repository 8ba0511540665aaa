/**
 * Times training steps and rollouts of fr1 on one device, on the same models and inputs as pytorch_devices.py.
 *
 *     node bench/devices.mjs create FOLDER          writes the models and inputs of all sizes
 *     node bench/devices.mjs time FOLDER cuda 5M,40M,200M
 *
 * Prints a line of JSON per size: medians over the timed turns, after two that are not timed.
 */

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { PLAIN_SAMPLING } from '../dist/src/engine/generate/plain-sampling.js';
import { WEIGHTED_NLL } from '../dist/src/engine/loss/weighted-nll.js';
import { buildBatch } from '../dist/src/engine/models/qwen2_5_vl/batch.js';
import { parseConfig } from '../dist/src/engine/models/qwen2_5_vl/config.js';
import { createGenerator } from '../dist/src/engine/models/qwen2_5_vl/generator.js';
import { initialiseWeights } from '../dist/src/engine/models/qwen2_5_vl/initialise.js';
import { TrainingModel } from '../dist/src/engine/models/qwen2_5_vl/training-model.js';
import { AdamW } from '../dist/src/engine/optim/adamw.js';
import { RandomStream } from '../dist/src/engine/random.js';
import { float32 } from '../dist/src/engine/tensor.js';
import { openCheckpoint, saveCheckpoint } from '../dist/src/engine/weights/checkpoint.js';
import { SessionPool } from '../dist/src/pool/pool.js';
import { sourceOfLease } from '../dist/src/pool/session-source.js';
import { imagesOf, requestsOf, rowsOf } from './engine-inputs.mjs';
import { DEVICE_SIZES, IMAGE_TOKEN, makeInputs, TRAIN_ROWS } from './scenarios.mjs';

const TRAIN_TURNS = 10;
const ROLLOUT = { prompts: 32, newTokens: 80 };
const ROLLOUT_TURNS = 2;
const SETTINGS = { learningRate: 1e-4, maxGradNorm: 1 };

const [command, folder, device, sizes = Object.keys(DEVICE_SIZES).join(',')] = process.argv.slice(2);
if (command === 'create') await create();
else
  for (const size of sizes.split(',')) console.log(JSON.stringify({ size, ...(await time(path.join(folder, size))) }));

async function create() {
  const pool = await SessionPool.open();
  const lease = await pool.lease();
  for (const [size, config] of Object.entries(DEVICE_SIZES)) {
    const dir = path.join(folder, size);
    mkdirSync(dir, { recursive: true });
    const { store } = initialised(new TrainingModel(sourceOfLease(lease), parseConfig(config)));
    const tensors = store.parameters.map(({ name, shape }) => ({ name, shape, load: () => store.tensor(name) }));
    await saveCheckpoint(dir, { config, tensors, dtype: 'float32' });
    const { pixels, ...tokens } = makeInputs(new RandomStream(1, 'bench'), ROLLOUT.prompts);
    writeFileSync(
      path.join(dir, 'inputs.json'),
      JSON.stringify({ ...tokens, newTokens: ROLLOUT.newTokens, rows: TRAIN_ROWS, ...SETTINGS }),
    );
    writeFileSync(path.join(dir, 'pixels.f32'), new Uint8Array(pixels.buffer));
    console.log(`${size}: ${store.flat.length} weights`);
  }
  await lease[Symbol.asyncDispose]();
  await pool.close();
}

function initialised(model) {
  initialiseWeights(model.store, model.config, 1);
  return model;
}

async function time(dir) {
  const pool = await SessionPool.open({ devices: [device] });
  const lease = await pool.lease();
  const source = sourceOfLease(lease);
  const checkpoint = openCheckpoint(dir);
  const { config } = checkpoint;
  const inputs = JSON.parse(readFileSync(path.join(dir, 'inputs.json'), 'utf8'));
  const bytes = readFileSync(path.join(dir, 'pixels.f32'));
  const pixels = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
  const images = imagesOf(pixels, inputs.prompts.length);
  const model = new TrainingModel(source, config);
  for (const { name } of checkpoint.parameters) checkpoint.readFloat32(name, model.store.tensor(name).data);
  const optimizer = await AdamW.create(source, model.store);
  const gradients = await model.gradientSum();
  const rows = rowsOf(inputs, inputs.rows);
  const parts = { gradients: [], clip: [], update: [] };
  const losses = [];
  const steps = [];
  const started = performance.now();
  for (let turn = 0; turn < TRAIN_TURNS + 2; turn++) {
    const start = performance.now();
    const batch = buildBatch(config, rows, images.slice(0, inputs.rows));
    const count = batch.targets.length;
    const weight = float32([count], new Float32Array(count).fill(1 / count));
    gradients.clear();
    const { loss } = await gradients.add((into) => model.lossAndGradients(batch, WEIGHTED_NLL, { weight }, into));
    const computed = performance.now();
    await gradients.clip(inputs.maxGradNorm);
    const clipped = performance.now();
    await optimizer.step(gradients.value, inputs.learningRate);
    const end = performance.now();
    losses.push(loss);
    if (turn < 2) continue;
    steps.push(end - start);
    parts.gradients.push(computed - start);
    parts.clip.push(clipped - computed);
    parts.update.push(end - clipped);
  }
  const trained = performance.now();
  const generator = createGenerator(source, config, model.weights);
  const requests = requestsOf(inputs, images, inputs.prompts.length);
  const rollouts = [];
  for (let turn = 0; turn < ROLLOUT_TURNS + 1; turn++) {
    const start = performance.now();
    await generator.generate(
      requests,
      {
        maxNewTokens: inputs.newTokens,
        ...PLAIN_SAMPLING,
        bannedTokenIds: [IMAGE_TOKEN],
      },
      {},
    );
    if (turn > 0) rollouts.push(performance.now() - start);
  }
  const weights = model.store.flat.length;
  await generator.release();
  await model.release();
  await optimizer.release();
  await lease[Symbol.asyncDispose]();
  await pool.close();
  return {
    device,
    precision: device.startsWith('cuda') ? process.env.FR1_CUDA_PRECISION || 'tf32' : 'float32',
    weights,
    losses: [losses[0], losses.at(-1)],
    stepMs: round(median(steps)),
    ...Object.fromEntries(Object.entries(parts).map(([name, values]) => [`${name}Ms`, round(median(values))])),
    firstStepsMs: round(trained - started - steps.reduce((sum, value) => sum + value, 0)),
    rolloutMs: round(median(rollouts)),
    tokensPerSecond: Math.round((1000 * ROLLOUT.prompts * inputs.newTokens) / median(rollouts)),
  };
}

function median(values) {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
}

function round(value) {
  return Math.round(value * 100) / 100;
}
