/**
 * Times training steps and rollouts of fr1, and of PyTorch beside it where a Python with torch and transformers is
 * present (FR1_PYTHON, else python3). Both have the same random weights, inputs and number of threads and take turns;
 * what they compute is compared too. A turn during which other processes use the CPUs is taken again, up to `patience`
 * times. Prints tables, writes bench/results/<time>.json.
 *
 * npm run bench -- [--repetitions 7] [--patience 3] [--threads 2] [--size fr1-tiny]
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, cpus, loadavg, tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { findPython, startFr1, startPyTorch } from './engine-process.mjs';
import { median } from './median.mjs';
import { LEARNING_RATE, MAX_GRAD_NORM, rolloutsOf, SIZES, trainFlops, trainRowsOf } from './scenarios.mjs';

/** Side of the matrices whose product gives the peak. */
const PEAK_SIDE = 2048;
const PEAK_FLOPS = 2 * PEAK_SIDE ** 3;
/** Between turns, so that the threads of the engine before have gone to sleep. */
const PAUSE_MS = 300;
const WARM_UPS = 2;
/** Share of all CPU time that others may use during a turn. */
const DISTURBED = 0.05;
const CALM_MS = 2000;
const LOG_PROB_TOLERANCE = 1e-3;
const LOSS_TOLERANCE = 1e-3;
const GREEDY_TOKENS = 16;

const { values: args } = parseArgs({
  options: {
    repetitions: { type: 'string', default: '7' },
    patience: { type: 'string', default: '3' },
    threads: { type: 'string', default: String(availableParallelism()) },
    size: { type: 'string', multiple: true, default: Object.keys(SIZES) },
  },
});
const repetitions = Number(args.repetitions);
const patience = Number(args.patience);
const threads = Number(args.threads);
if (!(repetitions >= 1) || !(patience >= 0) || !(threads >= 1) || args.size.some((size) => !(size in SIZES))) {
  console.error(
    `usage: npm run bench -- [--repetitions N] [--patience N] [--threads N] [--size ${Object.keys(SIZES).join('|')}]`,
  );
  process.exit(2);
}

const { python, reason } = findPython();
if (python === null) console.log(`PyTorch is left out: ${reason}\n`);

/** Engines by column name. */
const ENGINES = {
  fr1: () => startFr1(),
  ...(python && {
    'PyTorch sdpa': () => startPyTorch(python),
    'PyTorch eager': () => startPyTorch(python),
  }),
};
const PYTORCH_OPTIONS = { learningRate: LEARNING_RATE, maxGradNorm: MAX_GRAD_NORM };

const load = loadavg()[0];
console.log(`${cpus()[0]?.model ?? 'unknown CPU'}, ${threads} threads, load before ${load.toFixed(2)}`);
/** Turns that counted, and those of them during which others were busy. */
const turns = { all: 0, disturbed: 0 };

const folder = mkdtempSync(path.join(tmpdir(), 'fr1-bench-'));
const results = {
  date: new Date().toISOString(),
  cpu: cpus()[0]?.model,
  threads,
  repetitions,
  loadBefore: load,
  sizes: {},
};
try {
  for (const size of args.size) {
    const dir = path.join(folder, size);
    const maker = startFr1();
    const { parameters } = await maker.ask('create', { dir, size });
    await maker.close();
    const { prompts, responses } = JSON.parse(readFileSync(path.join(dir, 'inputs.json'), 'utf8'));
    const trainRows = trainRowsOf(size);
    const lengths = responses.slice(0, trainRows).map((response, i) => [prompts[i].length, response.length]);
    const train = await benchTraining(dir, SIZES[size], lengths);
    const rollouts = await benchRollouts(dir, rolloutsOf(size));
    results.sizes[size] = { parameters, train, rollouts };
    report(size, results.sizes[size]);
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
results.turns = turns;
results.loadAfter = loadavg()[0];
console.log(`\n${turns.disturbed} of ${turns.all} turns were disturbed by other processes`);
const target = fileURLToPath(new URL('results/', import.meta.url));
mkdirSync(target, { recursive: true });
const file = path.join(target, `${results.date.replace(/[:.]/g, '-')}.json`);
writeFileSync(file, `${JSON.stringify(results, null, 2)}\n`);
console.log(`written to ${path.relative(process.cwd(), file)}`);

async function benchTraining(dir, config, lengths) {
  const engines = await openEngines(dir, 'train', lengths.length);
  try {
    const passes = await takeTurns(engines, (_, engine) => engine.ask('logProbs'));
    const agreement = { logProbs: {}, losses: {} };
    for (const [name, [{ values }]] of Object.entries(passes)) {
      agreement.logProbs[name] = largestDifference(values, passes.fr1[0].values);
      mustAgree(`log-probabilities of ${name}`, agreement.logProbs[name], LOG_PROB_TOLERANCE);
    }
    const peak = {};
    const products = await takeTurns(engines, (_, engine) => engine.ask('matmul', { n: PEAK_SIDE }));
    for (const [name, [least]] of Object.entries(timed(products))) peak[name] = PEAK_FLOPS / least;
    const steps = await takeTurns(engines, (_, engine) => engine.ask('train'));
    // An engine that had to repeat turns has done more steps than another.
    const common = Math.min(...Object.values(steps).map((list) => list.length));
    const losses = (name) => steps[name].slice(0, common).map(({ loss }) => loss);
    for (const name of Object.keys(engines)) {
      agreement.losses[name] = largestDifference(losses(name), losses('fr1'));
      mustAgree(`losses of ${name}`, agreement.losses[name], LOSS_TOLERANCE);
    }
    const tokens = lengths.reduce((sum, [prompt, response]) => sum + prompt + response, 0);
    const memory = await askAll(engines, 'memory');
    return {
      rows: lengths.length,
      tokens,
      flops: trainFlops(config, lengths),
      peak,
      agreement,
      losses: losses('fr1'),
      logProbSeconds: timed(passes),
      seconds: timed(steps),
      peakBytes: mapValues(memory, ({ bytes }) => bytes),
    };
  } finally {
    await closeAll(engines);
  }
}

async function benchRollouts(dir, rollouts) {
  const engines = await openEngines(dir, 'generate', 0);
  try {
    const checked = { ...rollouts[0], newTokens: GREEDY_TOKENS, greedy: true };
    const greedy = mapValues(await askAll(engines, 'generate', checked), ({ tokens }) => tokens.flat());
    const agreement = mapValues(greedy, (tokens) => shareEqual(tokens, greedy.fr1));
    for (const [name, share] of Object.entries(agreement)) mustAgree(`greedy tokens of ${name}`, 1 - share, 0.02);
    const runs = [];
    for (const rollout of rollouts) {
      const steps = await takeTurns(engines, (_, engine) => engine.ask('generate', rollout));
      const peakBytes = mapValues(await askAll(engines, 'memory'), ({ bytes }) => bytes);
      const tokens = rollout.prompts * rollout.samples * rollout.newTokens;
      runs.push({ ...rollout, tokens, seconds: timed(steps), peakBytes });
    }
    return { agreement, runs };
  } finally {
    await closeAll(engines);
  }
}

async function openEngines(dir, work, trainRows) {
  const engines = {};
  for (const [name, start] of Object.entries(ENGINES)) {
    engines[name] = start();
    const attention = name.split(' ')[1];
    const { versions } = await engines[name].ask('open', {
      dir,
      threads,
      work,
      trainRows,
      ...(attention && { attention, ...PYTORCH_OPTIONS }),
    });
    results.versions = { ...results.versions, ...versions };
  }
  return engines;
}

/** Each engine once, then each again: warm-ups, then the repetitions. */
async function takeTurns(engines, turn) {
  const answers = mapValues(engines, () => []);
  for (let i = 0; i < WARM_UPS + repetitions; i++) {
    for (const [name, engine] of Object.entries(engines)) {
      const isWarmUp = i < WARM_UPS;
      for (let attempt = 0; ; attempt++) {
        await sleep(attempt === 0 ? PAUSE_MS : CALM_MS);
        const { answer, others } = await watched(() => turn(name, engine));
        const isDisturbed = others > DISTURBED;
        const counts = isWarmUp || !isDisturbed || attempt >= patience;
        answers[name].push({ ...answer, counts: counts && !isWarmUp });
        if (!counts) continue;
        if (!isWarmUp) turns.all++;
        if (!isWarmUp && isDisturbed) turns.disturbed++;
        break;
      }
    }
  }
  return answers;
}

/** An answer, and the share of the machine's CPU time that others than the engine used meanwhile. */
async function watched(ask) {
  const before = cpuTimes();
  const answer = await ask();
  const after = cpuTimes();
  return { answer, others: (after.busy - before.busy - answer.cpuSeconds) / (after.all - before.all) };
}

/** Seconds since the start of the machine, summed over its CPUs. */
function cpuTimes() {
  let [busy, all] = [0, 0];
  for (const { times } of cpus()) {
    const { user, nice, sys, irq, idle } = times;
    busy += (user + nice + sys + irq) / 1000;
    all += (user + nice + sys + irq + idle) / 1000;
  }
  return { busy, all };
}

async function askAll(engines, request, options) {
  const answers = {};
  for (const [name, engine] of Object.entries(engines)) answers[name] = await engine.ask(request, options);
  return answers;
}

async function closeAll(engines) {
  for (const engine of Object.values(engines)) await engine.close();
}

/** Sorted seconds of the turns that count. */
function timed(answers) {
  return mapValues(answers, (steps) => {
    const seconds = steps.flatMap((step) => (step.counts ? [step.seconds] : []));
    return seconds.sort((x, y) => x - y);
  });
}

function mapValues(record, change) {
  return Object.fromEntries(Object.entries(record).map(([key, value]) => [key, change(value)]));
}

function largestDifference(a, b) {
  if (a.length !== b.length || a.length === 0) return Number.POSITIVE_INFINITY;
  return a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i])), 0);
}

function shareEqual(a, b) {
  return a.length === b.length ? a.filter((value, i) => value === b[i]).length / a.length : 0;
}

function mustAgree(what, difference, tolerance) {
  if (difference <= tolerance) return;
  throw new Error(`the ${what} differ from fr1's by ${difference}, more than ${tolerance}: not the same work`);
}

function report(size, { parameters, train, rollouts }) {
  const names = Object.keys(ENGINES);
  const peak = Math.max(...Object.values(train.peak));
  const others = names.slice(1);
  const rows = [
    ['', ...names],
    ['matrix product, GFLOP/s', ...names.map((name) => (train.peak[name] / 1e9).toFixed(0))],
    [
      `training step of ${train.rows} x 1 image, ${train.tokens} tokens: ms`,
      ...names.map((name) => milliseconds(train.seconds[name])),
    ],
    ['  tokens/s', ...names.map((name) => rate(train.tokens, train.seconds[name]))],
    [
      '  share of the matrix-product peak',
      ...names.map((name) => percent(train.flops / median(train.seconds[name]) / peak)),
    ],
    ['  peak memory, MiB', ...names.map((name) => mebibytes(train.peakBytes[name]))],
    ['log-probabilities of the same responses: ms', ...names.map((name) => milliseconds(train.logProbSeconds[name]))],
  ];
  for (const run of rollouts.runs) {
    rows.push(
      [
        `${run.prompts} prompts x ${run.samples}, ${run.newTokens} tokens each: ms`,
        ...names.map((name) => milliseconds(run.seconds[name])),
      ],
      ['  tokens/s', ...names.map((name) => rate(run.tokens, run.seconds[name]))],
      ['  peak memory so far, MiB', ...names.map((name) => mebibytes(run.peakBytes[name]))],
    );
  }
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  console.log(`\n${size}: ${(parameters / 1e6).toFixed(2)} M weights, medians of ${repetitions} [least-most]`);
  for (const row of rows) {
    console.log(row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i]))).join('  '));
  }
  if (others.length === 0) return;
  for (const peer of others) {
    const ratio = (seconds) => `${(median(seconds[peer]) / median(seconds.fr1)).toFixed(2)}x`;
    const parts = rollouts.runs.map((run) => `${run.prompts * run.samples} rollouts ${ratio(run.seconds)}`);
    console.log(
      `fr1 against ${peer}: training ${ratio(train.seconds)}, log-probabilities ${ratio(train.logProbSeconds)}, ${parts.join(', ')}`,
    );
  }
  const most = (record) => Math.max(...Object.values(record)).toExponential(1);
  const least = Math.min(...Object.values(rollouts.agreement));
  console.log(
    `same work: log-probabilities differ by ${most(train.agreement.logProbs)}, losses over ${train.losses.length} steps by ` +
      `${most(train.agreement.losses)}; ${percent(least)} of greedy tokens are equal`,
  );
}

function milliseconds(sorted) {
  const ms = (seconds) => (seconds * 1000).toFixed(0);
  return `${ms(median(sorted))} [${ms(sorted[0])}-${ms(sorted.at(-1))}]`;
}

function rate(tokens, sorted) {
  return (tokens / median(sorted)).toFixed(0);
}

function percent(share) {
  return `${(100 * share).toFixed(1)} %`;
}

function mebibytes(bytes) {
  return (bytes / 2 ** 20).toFixed(0);
}
