/**
 * fr1 as a process of its own: one JSON request a line on standard input, one JSON answer a line on standard output, with
 * the CPU time that it took.
 * The same requests as pytorch_engine.py, and `create`, which makes the model and the inputs for both.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { Graph } from '../dist/src/engine/autodiff/graph.js';
import { PLAIN_SAMPLING } from '../dist/src/engine/generate/plain-sampling.js';
import { WEIGHTED_NLL } from '../dist/src/engine/loss/weighted-nll.js';
import { buildBatch } from '../dist/src/engine/models/qwen2_5_vl/batch.js';
import { parseConfig } from '../dist/src/engine/models/qwen2_5_vl/config.js';
import { createGenerator } from '../dist/src/engine/models/qwen2_5_vl/generator.js';
import { initialiseWeights } from '../dist/src/engine/models/qwen2_5_vl/initialise.js';
import { TrainingModel } from '../dist/src/engine/models/qwen2_5_vl/training-model.js';
import { Gemm } from '../dist/src/engine/ops/gemm.js';
import { AdamW } from '../dist/src/engine/optim/adamw.js';
import { clipGlobalNorm } from '../dist/src/engine/optim/gradients.js';
import { Program } from '../dist/src/engine/program.js';
import { RandomStream } from '../dist/src/engine/random.js';
import { openRuntime } from '../dist/src/engine/session/open-runtime.js';
import { float32 } from '../dist/src/engine/tensor.js';
import { openCheckpoint, saveCheckpoint } from '../dist/src/engine/weights/checkpoint.js';
import { MemoryWeights, ModelWeights } from '../dist/src/engine/weights/model-weights.js';
import { imagesOf, requestsOf, rowsOf, sourceOf } from './engine-inputs.mjs';
import { IMAGE_TOKEN, LEARNING_RATE, MAX_GRAD_NORM, makeInputs, rolloutsOf, SIZES, TRAIN_ROWS } from './scenarios.mjs';

const INPUTS = 'inputs.json';
const PIXELS = 'pixels.f32';

let runtime;
let source;
let config;
let inputs;
let images;
let model;
let optimizer;
let gradients;
let generator;
let product;
let trainRows;

const REQUESTS = {
  /** Writes a model folder with random weights, and the inputs. */
  async create({ dir, size }) {
    mkdirSync(dir, { recursive: true });
    await openSource(1);
    const made = new TrainingModel(source, parseConfig(SIZES[size]));
    initialiseWeights(made.store, made.config, 1);
    const tensors = made.store.parameters.map(({ name, shape }) => ({
      name,
      shape,
      load: () => made.store.tensor(name),
    }));
    await saveCheckpoint(dir, { config: SIZES[size], tensors, dtype: 'float32' });
    const count = Math.max(TRAIN_ROWS, ...rolloutsOf(size).map(({ prompts }) => prompts));
    const { pixels, ...tokens } = makeInputs(new RandomStream(1, 'bench'), count);
    writeFileSync(path.join(dir, INPUTS), JSON.stringify(tokens));
    writeFileSync(path.join(dir, PIXELS), new Uint8Array(pixels.buffer));
    return { parameters: made.store.flat.length };
  },

  async open({ dir, threads, work, trainRows: rows }) {
    trainRows = rows;
    await openSource(threads);
    const checkpoint = openCheckpoint(dir);
    config = checkpoint.config;
    inputs = JSON.parse(readFileSync(path.join(dir, INPUTS), 'utf8'));
    const bytes = readFileSync(path.join(dir, PIXELS));
    const pixels = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
    images = imagesOf(pixels, inputs.prompts.length);
    if (work === 'train') {
      model = new TrainingModel(source, config);
      for (const { name } of checkpoint.parameters) checkpoint.readFloat32(name, model.store.tensor(name).data);
      optimizer = await AdamW.create(source, model.store);
      gradients = model.store.buffer();
    } else {
      const weights = new MemoryWeights(checkpoint.parameters.map(({ name }) => [name, checkpoint.readFloat32(name)]));
      generator = createGenerator(source, config, ModelWeights.frozen(weights));
    }
    return { versions: { onnxruntime: runtime.version, runtime: runtime.name, node: process.versions.node } };
  },

  /** Log-probabilities of the targets, before any step. */
  async logProbs() {
    const start = performance.now();
    const values = await model.logProbs(trainBatch());
    return { seconds: (performance.now() - start) / 1000, values: [...values] };
  },

  async train() {
    const start = performance.now();
    const batch = trainBatch();
    const count = batch.targets.length;
    const weight = float32([count], new Float32Array(count).fill(1 / count));
    const { loss } = await model.lossAndGradients(batch, WEIGHTED_NLL, { weight }, gradients);
    await clipGlobalNorm(gradients, MAX_GRAD_NORM);
    await optimizer.step(gradients, LEARNING_RATE);
    return { seconds: (performance.now() - start) / 1000, loss };
  },

  async generate({ prompts, samples, newTokens, greedy = false, topP = 1 }) {
    const requests = requestsOf(inputs, images, prompts);
    const start = performance.now();
    const completions = await generator.generate(
      requests,
      {
        ...PLAIN_SAMPLING,
        maxNewTokens: newTokens,
        temperature: greedy ? 0 : 1,
        topP,
        bannedTokenIds: greedy ? [] : [IMAGE_TOKEN],
        samplesPerRequest: samples,
      },
      {},
    );
    const seconds = (performance.now() - start) / 1000;
    return { seconds, tokens: greedy ? completions.map(([{ tokenIds }]) => tokenIds) : undefined };
  },

  /** Seconds of one square matrix product. */
  async matmul({ n }) {
    if (product === undefined) {
      const graph = new Graph();
      const y = Gemm(graph.input('a', 'float32', [n, n]), graph.input('b', 'float32', [n, n]));
      const program = await Program.compile(source, graph, { y }, { key: `gemm:${n}` });
      const square = () => float32([n, n], new Float32Array(n * n).fill(1 / n));
      product = { program, feeds: { a: square(), b: square() }, into: { y: square() } };
    }
    const start = performance.now();
    await product.program.run(product.feeds, { into: product.into });
    return { seconds: (performance.now() - start) / 1000 };
  },

  async memory() {
    return { bytes: process.resourceUsage().maxRSS * 1024 };
  },
};

async function openSource(threads) {
  runtime = await openRuntime({ threads });
  source = sourceOf(runtime);
}

function trainBatch() {
  return buildBatch(config, rowsOf(inputs, trainRows), images.slice(0, trainRows));
}

for await (const line of createInterface({ input: process.stdin })) {
  const { request, ...options } = JSON.parse(line);
  const before = process.cpuUsage();
  const answer = await REQUESTS[request](options);
  const { user, system } = process.cpuUsage(before);
  process.stdout.write(`${JSON.stringify({ ...answer, cpuSeconds: (user + system) / 1e6 })}\n`);
}
await runtime?.close();
