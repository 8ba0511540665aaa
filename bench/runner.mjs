/**
 * Times the runner itself: start-up, planning and cached re-runs of pipelines with many stages that do next to nothing.
 * Beside it, where FR1_SNAKEMAKE and FR1_DVC name the programs, `snakemake -n` on an equivalent graph and `dvc repro --dry`
 * on one whose outputs are all there: DVC's dry run ends with an error where a stage's dependency has yet to be made.
 * Each command is a process of its own; the median and the least of the repetitions are printed, with peak memory.
 *
 * npm run bench:runner -- [--stages 1000] [--repetitions 5] [--only-plan]
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, loadavg, tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const BIN = path.join(ROOT, 'bin', 'fr1.js');
const { values: args } = parseArgs({
  options: {
    stages: { type: 'string', default: '1000' },
    repetitions: { type: 'string', default: '5' },
    'only-plan': { type: 'boolean', default: false },
  },
});
const stages = Number(args.stages);
const repetitions = Number(args.repetitions);
if (!(stages >= 4) || !(repetitions >= 1)) {
  console.error('usage: npm run bench:runner -- [--stages N] [--repetitions N] [--only-plan]');
  process.exit(2);
}

const folder = mkdtempSync(path.join(tmpdir(), 'fr1-bench-runner-'));
process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
const env = { ...process.env, FR1_EXTRA_STAGES: path.join(ROOT, 'bench', 'runner-stages.mjs'), CI: '1' };

/** Two rows of cells, each of the second after its fellow of the first, and one stage after all. */
const cells = Math.floor((stages - 1) / 2);
const numbers = Array.from({ length: cells }, (_, i) => i + 1);
writeFileSync(
  path.join(folder, 'p.yaml'),
  `stages:
  first: { uses: note, matrix: { i: [${numbers}] }, with: { text: "first \${{ matrix.i }}" } }
  second:
    uses: note
    matrix: { i: [${numbers}] }
    with: { text: "second \${{ matrix.i }}", after: ["\${{ stages.first[matrix.i].outputs.note }}"] }
  end: { uses: note, with: { text: end, after: "\${{ stages.second.outputs.note }}" } }
`,
);

/** Wall seconds, user and system seconds, and peak MiB of a command, over the repetitions. */
function time(name, command, argv, cwd = folder, expected = 0) {
  const runs = [];
  for (let i = 0; i < repetitions; i++) {
    const result = spawnSync('/usr/bin/time', ['-f', '%e %U %S %M', command, ...argv], {
      cwd,
      env,
      encoding: 'utf8',
      maxBuffer: 2 ** 28,
    });
    if (result.status !== expected)
      throw new Error(`${name} ended with ${result.status}: ${result.stderr.slice(-2000)}`);
    const [wall, user, system, kib] = result.stderr.trim().split('\n').at(-1).split(' ').map(Number);
    runs.push({ wall, cpu: user + system, mib: kib / 1024 });
  }
  const sorted = (key) => runs.map((run) => run[key]).sort((a, b) => a - b);
  const middle = (key) => sorted(key)[Math.floor(runs.length / 2)];
  const row = {
    name,
    wall: middle('wall'),
    least: sorted('wall')[0],
    cpu: middle('cpu'),
    mib: Math.max(...sorted('mib')),
  };
  const text = [row.wall, row.least, row.cpu].map((value) => value.toFixed(2).padStart(8)).join('');
  console.log(`${name.padEnd(44)}${text}${row.mib.toFixed(0).padStart(8)}`);
  return row;
}

const node = process.execPath;
console.log(
  `${cpus()[0]?.model ?? 'unknown CPU'}, node ${process.versions.node}, load ${loadavg()[0].toFixed(2)}, ${repetitions} repetitions`,
);
console.log(`${''.padEnd(44)}${['median s', 'least s', 'CPU s', 'MiB'].map((title) => title.padStart(8)).join('')}`);
const rows = [
  time('node -e 0', node, ['-e', '0']),
  time('fr1 --help', node, [BIN, '--help']),
  time(
    'fr1 plan pipelines/quickstart.yaml',
    node,
    [BIN, 'plan', 'pipelines/quickstart.yaml', '-w', path.join(folder, 'none')],
    ROOT,
  ),
  time(`fr1 plan, ${2 * cells + 1} stages, none cached`, node, [BIN, 'plan', 'p.yaml']),
];
if (!args['only-plan']) {
  const first = spawnSync(node, [BIN, 'run', 'p.yaml', '--jobs', '16', '--json'], {
    cwd: folder,
    env,
    encoding: 'utf8',
    maxBuffer: 2 ** 28,
  });
  if (first.status !== 0) throw new Error(`the first run failed: ${first.stderr.slice(-2000)}`);
  rows.push(
    time(`fr1 plan, ${2 * cells + 1} stages, all cached`, node, [BIN, 'plan', 'p.yaml']),
    time(`fr1 run, ${2 * cells + 1} stages, all cached`, node, [BIN, 'run', 'p.yaml', '--jobs', '16']),
  );
}
if (process.env.FR1_SNAKEMAKE) {
  const place = path.join(folder, 'snakemake');
  mkdirSync(place);
  writeFileSync(
    path.join(place, 'Snakefile'),
    `N = range(1, ${cells + 1})
rule end:
    input: expand("second/{i}", i=N)
    output: "end"
    shell: "echo end > {output}"
rule first:
    output: "first/{i}"
    shell: "echo first {wildcards.i} > {output}"
rule second:
    input: "first/{i}"
    output: "second/{i}"
    shell: "echo second {wildcards.i} > {output}"
`,
  );
  rows.push(
    time(`snakemake -n, ${2 * cells + 1} jobs`, process.env.FR1_SNAKEMAKE, ['end', '-n', '--quiet', 'all'], place),
  );
}
if (process.env.FR1_DVC && !args['only-plan']) {
  const place = path.join(folder, 'dvc');
  mkdirSync(place);
  env.DVC_NO_ANALYTICS = '1';
  const row = (name, deps) =>
    `  ${name}:\n    foreach: [${numbers}]\n    do: { cmd: "echo ${name} \${item} > ${name}-\${item}", ${deps}outs: ["${name}-\${item}"] }\n`;
  const last = numbers.map((i) => `second-${i}`);
  writeFileSync(
    path.join(place, 'dvc.yaml'),
    `stages:\n${row('first', '')}${row('second', 'deps: ["first-${item}"], ')}  end: { cmd: "echo end > end", deps: [${last}], outs: [end] }\n`,
  );
  for (const name of ['end', ...last, ...numbers.map((i) => `first-${i}`)]) {
    writeFileSync(path.join(place, name), `${name.replace('-', ' ')}\n`);
  }
  for (const argv of [
    ['init', '-q', '--no-scm'],
    ['commit', '-q', '-f'],
  ]) {
    const { status, stderr } = spawnSync(process.env.FR1_DVC, argv, { cwd: place, env, encoding: 'utf8' });
    if (status !== 0) throw new Error(`dvc ${argv[0]} ended with ${status}: ${stderr.slice(-2000)}`);
  }
  rows.push(
    time(`dvc repro --dry, ${2 * cells + 1} stages, all cached`, process.env.FR1_DVC, ['repro', '--dry'], place),
  );
}
console.log(JSON.stringify({ stages: 2 * cells + 1, repetitions, rows }));
