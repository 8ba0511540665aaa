/**
 * Fine-tuning from files to a saved model, `fr1 run` with the stage sft beside transformers in PyTorch: the same random
 * weights, chats, photos and number of threads, in turns. Nothing is left out on either side: photos are decoded and
 * resized, texts tokenized, batches padded, the model saved. The loss of every update is compared.
 *
 *     node bench/sft.mjs --data FOLDER --tokenizer FOLDER [--size 40M] [--rows 16] [--steps 1] [--micro-batch 2]
 *                        [--max-pixels 262144] [--threads 2] [--repetitions 3]
 *
 * --data: chats in LLaMA-Factory's form, data.json, and their photos. --tokenizer: the tokenizer and processor files of
 * Qwen2.5-VL. The model has the widths of the size and the vocabulary of the tokenizer. An update takes all rows.
 */
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, cpus, loadavg, tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { execa } from 'execa';
import { findPython } from './engine-process.mjs';
import { median } from './median.mjs';
import { SIZES } from './scenarios.mjs';

const { values: args } = parseArgs({
  options: {
    data: { type: 'string' },
    tokenizer: { type: 'string' },
    size: { type: 'string', default: '40M' },
    rows: { type: 'string', default: '16' },
    steps: { type: 'string', default: '1' },
    'micro-batch': { type: 'string', default: '2' },
    'max-pixels': { type: 'string', default: '262144' },
    threads: { type: 'string', default: String(availableParallelism()) },
    repetitions: { type: 'string', default: '3' },
  },
});
if (!args.data || !args.tokenizer || !(args.size in SIZES)) {
  console.error('usage: node bench/sft.mjs --data FOLDER --tokenizer FOLDER (options: see the head of the file)');
  process.exit(2);
}
/** Of the real vocabulary; text and image tokens keep their ids. */
const VOCABULARY = 151936;
const SPECIAL_TOKENS = {
  vocab_size: VOCABULARY,
  bos_token_id: 151643,
  eos_token_id: 151645,
  pad_token_id: 151643,
  vision_start_token_id: 151652,
  vision_end_token_id: 151653,
  image_token_id: 151655,
  video_token_id: 151656,
};
const LEARNING_RATE = 1e-4;
const LOSS_TOLERANCE = 1e-3;
const FR1 = fileURLToPath(new URL('../bin/fr1.js', import.meta.url));
const PEER = fileURLToPath(new URL('pytorch_sft.py', import.meta.url));
const TOKENIZER_FILES =
  /^(tokenizer|merges|vocab|preprocessor_config|chat_template|generation_config|special_tokens|added)/;

const folder = mkdtempSync(path.join(tmpdir(), 'fr1-bench-sft-'));
const { python, reason } = findPython();
if (python === null) console.log(`PyTorch is left out: ${reason}\n`);
const ENGINES = {
  fr1: runFr1,
  ...(python && { 'PyTorch sdpa': () => runPyTorch('sdpa'), 'PyTorch eager': () => runPyTorch('eager') }),
};

console.log(`${cpus()[0]?.model}, ${args.threads} threads, load before ${loadavg()[0].toFixed(2)}`);
try {
  await prepare();
  const taken = Object.fromEntries(Object.keys(ENGINES).map((name) => [name, []]));
  for (let turn = 0; turn < Number(args.repetitions); turn++) {
    for (const [name, run] of Object.entries(ENGINES)) {
      const one = await run();
      taken[name].push(one);
      console.log(`${name}: ${one.seconds.toFixed(1)} s, ${one.targets} targets, losses ${one.losses.join(' ')}`);
    }
  }
  report(taken);
} finally {
  rmSync(folder, { recursive: true, force: true });
}

async function prepare() {
  const source = path.join(folder, 'source');
  mkdirSync(source);
  for (const file of readdirSync(args.tokenizer)) {
    if (TOKENIZER_FILES.test(file)) cpSync(path.join(args.tokenizer, file), path.join(source, file));
  }
  writeFileSync(path.join(source, 'config.json'), JSON.stringify({ ...SIZES[args.size], ...SPECIAL_TOKENS }));
  const config = path.join(source, 'config.json');
  await execa(process.execPath, [FR1, 'new', 'checkpoint', '--config', config, '--dtype', 'float32', model()]);
  cpSync(args.data, data(), { recursive: true });
  const chats = JSON.parse(readFileSync(path.join(data(), 'data.json'), 'utf8'));
  writeFileSync(path.join(data(), 'data.json'), JSON.stringify(chats.slice(0, Number(args.rows))));
}

function model() {
  return path.join(folder, 'model');
}

function data() {
  return path.join(folder, 'data');
}

/** The stage's own duration: starting node and planning, a second, are not in it, nor is PyTorch's import. */
async function runFr1() {
  const workspace = path.join(folder, 'workspace');
  const options = {
    model: model(),
    data: data(),
    adapter: { kind: 'full' },
    steps: Number(args.steps),
    batchSize: Number(args.rows),
    microBatchSize: Number(args['micro-batch']),
    maxPixels: Number(args['max-pixels']),
    learningRate: LEARNING_RATE,
    schedule: 'constant',
    warmupSteps: 0,
    weightDecay: 0,
  };
  const pipeline = path.join(folder, 'sft.yaml');
  writeFileSync(
    pipeline,
    JSON.stringify({ name: 'bench-sft', seed: 1, stages: { sft: { uses: 'sft', with: options } } }),
  );
  await execa(process.execPath, [FR1, 'run', pipeline, '--workspace', workspace, '--threads', args.threads]);
  const [run] = readdirSync(path.join(workspace, 'runs'));
  const lines = readFileSync(path.join(workspace, 'runs', run, 'events.jsonl'), 'utf8')
    .trim()
    .split('\n');
  const events = lines.map((line) => JSON.parse(line));
  const updates = events.filter(({ type }) => type === 'stage-metric').map(({ values }) => values);
  const { durationMs } = events.find(({ type }) => type === 'stage-finished');
  rmSync(workspace, { recursive: true });
  return {
    seconds: durationMs / 1000,
    losses: updates.map(({ loss }) => loss),
    targets: updates.reduce((sum, { targetTokens }) => sum + targetTokens, 0),
  };
}

async function runPyTorch(attention) {
  const options = {
    model: model(),
    data: data(),
    out: path.join(folder, 'saved'),
    attention,
    steps: Number(args.steps),
    microBatch: Number(args['micro-batch']),
    maxPixels: Number(args['max-pixels']),
    learningRate: LEARNING_RATE,
    threads: Number(args.threads),
  };
  const { stdout } = await execa(python, [PEER, JSON.stringify(options)]);
  rmSync(options.out, { recursive: true });
  return JSON.parse(stdout.trim().split('\n').at(-1));
}

function report(taken) {
  const own = taken.fr1;
  const tokens = Object.values(taken)
    .flat()
    .find((run) => run.tokens)?.tokens;
  for (const [name, runs] of Object.entries(taken)) {
    for (const run of runs) mustAgree(name, run, own[0]);
    const seconds = sorted(runs);
    const rate = tokens === undefined ? '' : `, ${(tokens / median(seconds)).toFixed(0)} tokens/s`;
    console.log(
      `${name}: ${median(seconds).toFixed(1)} s [${seconds[0].toFixed(1)}-${seconds.at(-1).toFixed(1)}]${rate}`,
    );
  }
  for (const [name, runs] of Object.entries(taken)) {
    if (name !== 'fr1') console.log(`fr1 against ${name}: ${(median(sorted(runs)) / median(sorted(own))).toFixed(2)}x`);
  }
  console.log(`load after ${loadavg()[0].toFixed(2)}`);
}

function mustAgree(name, { losses, targets }, own) {
  const difference = Math.max(...losses.map((loss, i) => Math.abs(loss / own.losses[i] - 1)));
  if (targets === own.targets && losses.length === own.losses.length && difference <= LOSS_TOLERANCE) return;
  throw new Error(
    `${name} did other work than fr1: ${targets} and ${own.targets} targets, losses differ by ${difference}`,
  );
}

function sorted(runs) {
  return runs.map(({ seconds }) => seconds).sort((a, b) => a - b);
}
