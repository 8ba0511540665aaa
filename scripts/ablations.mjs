/**
 * Runs the quickstart under a list of settings and seeds, several at a time, and writes one JSON with every figure and a
 * table with intervals over the seeds.
 *
 * node scripts/ablations.mjs --out FOLDER [--jobs 2] [--threads 1] [--seeds 1,2,3] [--only all,no-negative]
 *                            [--settings FILE.json] [--pipeline pipelines/quickstart.yaml] [--baseline all] [--dry-run]
 *                            [-- --set path=value ...]
 *
 * A settings file maps names to lists of `path=value`, as `--set` takes them. What follows `--` goes to every run. Each
 * run has a workspace of its own; stages that no setting changes are computed once per seed and copied from there. A run whose
 * result is there already is not repeated, so that the same command goes on after an interruption.
 */
import { cp, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { execa } from 'execa';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const TAPO = 'stages.tapo.with';

/** Runs side by side share the processors on purpose: `--jobs` and `--threads` say how. */
const OWN_DEVICES = { FR1_LEASE_DIR: 'off' };

/** What is compared by default; `all` is the pipeline as it stands. */
export const SETTINGS = {
  all: [],
  'no-positive': [`${TAPO}.views.positive=none`],
  'no-negative': [`${TAPO}.views.negative=none`],
  'no-entropy': [`${TAPO}.ownEntropy=0`],
  'no-views': [`${TAPO}.views.positive=none`, `${TAPO}.views.negative=none`],
  'positive-trained-on-anchor': [`${TAPO}.positiveConditioning=anchor`],
  dapo: [`${TAPO}.preset=dapo`],
  grpo: [`${TAPO}.preset=grpo`],
  rloo: [`${TAPO}.preset=rloo`],
  'reinforce++': [`${TAPO}.preset=reinforce++`],
  papo: [`${TAPO}.preset=papo`],
  'noisy-rollout': [`${TAPO}.preset=noisy-rollout`],
};

/** Stages that all settings share: computed once per seed. */
const COMMON = ['eval-base', 'eval-sft', 'triplets'];

/** Two-sided 95 % quantiles of Student's t by degrees of freedom, from 1. */
const T95 = [
  12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.16, 2.145, 2.131, 2.12, 2.11,
  2.101, 2.093, 2.086, 2.08, 2.074, 2.069, 2.064, 2.06, 2.056, 2.052, 2.048, 2.045, 2.042,
];

/** Mean of values with the 95 % interval of Student's t; no interval from a single value. */
export function meanWithInterval(values) {
  const n = values.length;
  const mean = values.reduce((sum, value) => sum + value, 0) / n;
  if (n < 2) return { mean, n, values };
  const deviation = Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (n - 1));
  const half = ((T95[n - 2] ?? 1.96) * deviation) / Math.sqrt(n);
  return { mean, deviation, low: mean - half, high: mean + half, n, values };
}

/** The figures of a finished run that a table can show. */
export function figuresOf(record) {
  const stage = (name) => record.stages.find((each) => each.name === name);
  const figures = {};
  for (const [prefix, name] of [
    ['base', 'eval-base'],
    ['sft', 'eval-sft'],
    ['tapo', 'eval-tapo'],
  ]) {
    for (const [metric, { value }] of Object.entries(stage(name)?.metrics ?? {}))
      figures[`${prefix}.${metric}`] = value;
  }
  for (const [metric, { value }] of Object.entries(stage('tapo')?.metrics ?? {})) figures[`training.${metric}`] = value;
  figures['seconds.tapo'] = (stage('tapo')?.durationMs ?? Number.NaN) / 1000;
  return figures;
}

/** Of every setting and figure, its mean over the seeds, and the mean of the differences from the baseline by seed. */
export function summarise(runs, baseline) {
  const settings = [...new Set(runs.map(({ setting }) => setting))];
  const ofBaseline = new Map(runs.filter((run) => run.setting === baseline).map((run) => [run.seed, run.figures]));
  return settings.map((setting) => {
    const own = runs.filter((run) => run.setting === setting).sort((a, b) => a.seed - b.seed);
    const names = [...new Set(own.flatMap(({ figures }) => Object.keys(figures)))];
    const values = {};
    const differences = {};
    for (const name of names) {
      const have = own.filter(({ figures }) => Number.isFinite(figures[name]));
      if (have.length === 0) continue;
      values[name] = meanWithInterval(have.map(({ figures }) => figures[name]));
      const paired = have.filter(({ seed }) => Number.isFinite(ofBaseline.get(seed)?.[name]));
      if (setting !== baseline && paired.length > 0) {
        differences[name] = meanWithInterval(
          paired.map(({ figures, seed }) => figures[name] - ofBaseline.get(seed)[name]),
        );
      }
    }
    return { setting, seeds: own.map(({ seed }) => seed), values, differences };
  });
}

const SHOWN = ['seen_closed', 'unseen_closed', 'closed', 'closed_strict', 'seen_open', 'unseen_open', 'open'];

/** Markdown: what each setting reaches, and how far it is from the baseline. Percentages. */
export function tableOf(summary, baseline) {
  const percent = (estimate, isSigned = false) => {
    if (!estimate) return '';
    const text = (share) => `${isSigned && share > 0 ? '+' : ''}${(100 * share).toFixed(1)}`;
    const interval = estimate.low === undefined ? '' : ` [${text(estimate.low)}, ${text(estimate.high)}]`;
    return text(estimate.mean) + interval;
  };
  const head = (title) => [`| ${title} | ${SHOWN.join(' | ')} |`, `| --- |${SHOWN.map(() => ' ---: |').join('')}`];
  const line = (name, cells) => `| ${name} | ${cells.join(' | ')} |`;
  const first = summary.find(({ setting }) => setting === baseline) ?? summary[0];
  const lines = [...head('accuracy, %')];
  for (const model of ['base', 'sft']) {
    lines.push(
      line(
        `(${model})`,
        SHOWN.map((name) => percent(first?.values[`${model}.${name}`])),
      ),
    );
  }
  for (const { setting, values, seeds } of summary) {
    lines.push(
      line(
        `${setting} (${seeds.length} seeds)`,
        SHOWN.map((name) => percent(values[`tapo.${name}`])),
      ),
    );
  }
  lines.push('', ...head(`points against "${baseline}"`));
  for (const { setting, differences } of summary) {
    if (setting === baseline) continue;
    lines.push(
      line(
        setting,
        SHOWN.map((name) => percent(differences[`tapo.${name}`], true)),
      ),
    );
  }
  lines.push(
    '',
    'Mean over seeds with the 95 % interval of Student’s t; differences are taken seed by seed, so that what a seed does to',
    'both sides falls out. An interval that contains 0 shows nothing.',
    '',
  );
  return lines.join('\n');
}

async function main() {
  const argv = process.argv.slice(2);
  const end = argv.indexOf('--');
  const { values } = parseArgs({
    args: end < 0 ? argv : argv.slice(0, end),
    options: {
      out: { type: 'string' },
      jobs: { type: 'string', default: String(Math.max(1, Math.floor(availableParallelism() / 2))) },
      threads: { type: 'string', default: '1' },
      seeds: { type: 'string', default: '1,2,3' },
      only: { type: 'string' },
      settings: { type: 'string' },
      pipeline: { type: 'string', default: path.join(ROOT, 'pipelines', 'quickstart.yaml') },
      baseline: { type: 'string', default: 'all' },
      'keep-workspaces': { type: 'boolean', default: false },
      'dry-run': { type: 'boolean', default: false },
    },
  });
  if (!values.out) throw new Error('give the folder of the results with --out');
  const all = values.settings ? JSON.parse(await readFile(values.settings, 'utf8')) : SETTINGS;
  const wanted = values.only?.split(',') ?? Object.keys(all);
  const unknown = wanted.filter((name) => !(name in all));
  if (unknown.length > 0)
    throw new Error(`unknown settings ${unknown.join(', ')}; known: ${Object.keys(all).join(', ')}`);
  const out = path.resolve(values.out);
  const context = {
    out,
    pipeline: path.resolve(values.pipeline),
    threads: values.threads,
    common: end < 0 ? [] : argv.slice(end + 1),
    keepWorkspaces: values['keep-workspaces'],
    isDryRun: values['dry-run'],
  };
  const seeds = values.seeds.split(',').map(Number);
  await mkdir(path.join(out, 'results'), { recursive: true });
  const prepared = new Map();
  // Seeds first: the first jobs then prepare different seeds instead of waiting for one.
  const jobs = wanted.flatMap((setting) => seeds.map((seed) => ({ setting, seed, sets: all[setting] })));
  const runs = [];
  const failures = [];
  const queue = [...jobs];
  const worker = async () => {
    for (let job = queue.shift(); job; job = queue.shift()) {
      try {
        if (!prepared.has(job.seed)) prepared.set(job.seed, prepareSeed(job.seed, context));
        await prepared.get(job.seed);
        const run = await runOne(job, context);
        if (run) runs.push(run);
      } catch (error) {
        failures.push({ setting: job.setting, seed: job.seed, message: error.shortMessage ?? error.message });
        console.error(`${job.setting} seed ${job.seed} failed: ${error.stderr?.slice(-2000) || error.message}`);
      }
    }
  };
  await Promise.all(Array.from({ length: Number(values.jobs) }, worker));
  if (context.isDryRun) return;
  const summary = summarise(runs, values.baseline);
  const report = {
    version: 1,
    pipeline: path.relative(ROOT, context.pipeline),
    common: context.common,
    threads: Number(values.threads),
    settings: Object.fromEntries(wanted.map((name) => [name, all[name]])),
    runs,
    summary,
    failures,
  };
  await writeFile(path.join(out, 'ablations.json'), `${JSON.stringify(report, null, 2)}\n`);
  const table = tableOf(summary, values.baseline);
  await writeFile(path.join(out, 'ablations.md'), table);
  console.log(table);
  if (failures.length > 0) process.exitCode = 1;
}

function argumentsOf({ seed, sets, workspace }, { pipeline, threads, common }, extra = []) {
  const changes = [`seed=${seed}`, ...sets].flatMap((change) => ['--set', change]);
  const bin = path.join(ROOT, 'bin', 'fr1.js');
  return [bin, 'run', pipeline, '--workspace', workspace, '--threads', threads, ...changes, ...common, ...extra];
}

/** Computes what the settings share in a workspace that is copied afterwards. */
async function prepareSeed(seed, context) {
  const workspace = path.join(context.out, 'workspaces', `common-${seed}`);
  const args = argumentsOf({ seed, sets: [], workspace }, context, ['--only', COMMON.join(',')]);
  if (context.isDryRun) return console.log(`node ${args.join(' ')}`);
  await mkdir(workspace, { recursive: true });
  const started = performance.now();
  await execa(process.execPath, args, { cwd: ROOT, env: OWN_DEVICES });
  console.error(`seed ${seed}: shared stages after ${seconds(started)} s`);
}

async function runOne({ setting, seed, sets }, context) {
  const name = `${setting}-${seed}`;
  const file = path.join(context.out, 'results', `${name}.json`);
  const workspace = path.join(context.out, 'workspaces', name);
  const args = argumentsOf({ seed, sets, workspace }, context);
  if (context.isDryRun) return console.log(`node ${args.join(' ')}`);
  const known = await readFile(file, 'utf8').then(JSON.parse, () => null);
  if (known && JSON.stringify(known.arguments) === JSON.stringify(args.slice(1))) return known;
  const started = performance.now();
  const source = path.join(context.out, 'workspaces', `common-${seed}`);
  await cp(source, workspace, { recursive: true, preserveTimestamps: true, errorOnExist: false, force: false });
  await execa(process.execPath, args, { cwd: ROOT, env: OWN_DEVICES });
  const shown = await execa(process.execPath, [args[0], 'show', 'last', '--json', '--workspace', workspace], {
    cwd: ROOT,
  });
  const record = JSON.parse(shown.stdout);
  const run = {
    setting,
    seed,
    sets,
    arguments: args.slice(1),
    figures: figuresOf(record),
    seconds: Number(seconds(started)),
  };
  await writeFile(`${file}.part`, `${JSON.stringify(run, null, 2)}\n`);
  await rename(`${file}.part`, file);
  if (!context.keepWorkspaces) await rm(workspace, { recursive: true, force: true });
  console.error(`${name}: ${run.seconds} s, closed ${(100 * (run.figures['tapo.closed'] ?? Number.NaN)).toFixed(1)} %`);
  return run;
}

function seconds(started) {
  return ((performance.now() - started) / 1000).toFixed(0);
}

if (import.meta.filename === process.argv[1]) await main();
