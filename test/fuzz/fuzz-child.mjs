/**
 * Damages pipelines and asks the built CLI to plan them, in this process: `node fuzz-child.mjs FIRST COUNT`.
 *
 * Prints one JSON line before each mutation, so that whoever started this process knows which one hangs, and one with
 * the figures at the end. Ends with 1 at the first answer that is not as it should be.
 */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { runCli } from '../../dist/src/cli/main.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const [first = 0, count = 100] = process.argv.slice(2).map(Number);

/** What is put into pipelines. */
const PIECES = JSON.parse(readFileSync(new URL('./pieces.json', import.meta.url), 'utf8'));

/** mulberry32: a small generator with a 32-bit state. */
function generator(seed) {
  let state = (seed * 0x9e3779b9) >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** The text with a few pieces or lines removed, doubled, moved or put in. */
function damaged(text, random) {
  const below = (limit) => Math.floor(random() * limit);
  const pick = (list) => list[below(list.length)];
  let result = text;
  for (let n = 1 + below(4); n > 0; n--) {
    if (random() < 0.3) {
      const lines = result.split('\n');
      const line = below(lines.length);
      const change = below(4);
      if (change === 0) lines.splice(line, 1 + below(3));
      else if (change === 1) lines.splice(line, 0, lines[below(lines.length)]);
      else if (change === 2) lines[line] = `${' '.repeat(below(8))}${lines[line]?.trimStart()}`;
      else [lines[line], lines[below(lines.length)]] = [lines[below(lines.length)], lines[line]];
      result = lines.join('\n');
      continue;
    }
    const start = below(result.length);
    const end = start + below(12);
    const put = pick([() => '', () => pick(PIECES), () => result.slice(start, end).repeat(1 + below(40))])();
    result = result.slice(0, start) + put + result.slice(random() < 0.5 ? start : end);
  }
  return result;
}

const pipelines = [
  ...readdirSync(join(ROOT, 'pipelines'))
    .filter((name) => /\.ya?ml$/.test(name))
    .map((name) => join(ROOT, 'pipelines', name)),
  join(ROOT, 'test', 'fuzz', 'language.yaml'),
].map((path) => readFileSync(path, 'utf8'));

const base = mkdtempSync(join(tmpdir(), 'fr1-fuzz-'));
const folder = join(base, 'pipelines');
mkdirSync(folder);
symlinkSync(join(ROOT, 'models'), join(base, 'models'));
process.once('exit', () => rmSync(base, { recursive: true, force: true }));

function fail(seed, why, text, output) {
  process.stdout.write(`${JSON.stringify({ failed: seed, why, text, output: output.slice(0, 4000) })}\n`);
  process.exit(1);
}

const sink = () => {
  const parts = [];
  return { write: (text) => parts.push(String(text)), text: () => parts.join('') };
};

const codes = {};
const reports = {};
let slowestMs = 0;
for (let seed = first; seed < first + count; seed++) {
  process.stdout.write(`{"seed":${seed}}\n`);
  const random = generator(seed);
  const text = pipelines[Math.floor(random() * pipelines.length)];
  const isSet = random() < 0.1;
  writeFileSync(join(folder, 'p.yaml'), isSet ? text : damaged(text, random));
  const set = isSet ? ['--set', damaged('stages.birds.with={ source: procedural-birds }', random)] : [];
  const command = random() < 0.8 ? ['check', '--no-data'] : ['plan'];
  const [stdout, stderr] = [sink(), sink()];
  const startedAt = performance.now();
  const code = await runCli([...command, 'p.yaml', ...set], {
    stdout,
    stderr,
    env: {},
    cwd: folder,
    onInterrupt: () => () => undefined,
    exitNow: (status) => fail(seed, `exit ${status}`, text, ''),
  }).catch((error) => fail(seed, 'thrown', readFileSync(join(folder, 'p.yaml'), 'utf8'), String(error?.stack)));
  slowestMs = Math.max(slowestMs, performance.now() - startedAt);
  const output = stdout.text() + stderr.text();
  const written = readFileSync(join(folder, 'p.yaml'), 'utf8') + set.join(' ');
  codes[code] = (codes[code] ?? 0) + 1;
  for (const [, each] of output.matchAll(/error\[(\w+)\]/g)) reports[each] = (reports[each] ?? 0) + 1;
  if (![0, 1, 2].includes(code)) fail(seed, `exit code ${code}`, written, output);
  if (/^\s+at \S|\bnode:internal|\bundefined\b|\[object /m.test(output))
    fail(seed, 'a stack trace or a leak', written, output);
  if (code !== 0 && !/error(\[\w+\])?/.test(output)) fail(seed, 'no error told', written, output);
  if (/this is unexpected/.test(output)) fail(seed, 'an error that fr1 does not know', written, output);
}
const rssMiB = Math.round(process.resourceUsage().maxRSS / 1024);
process.stdout.write(`${JSON.stringify({ done: count, codes, reports, slowestMs: Math.round(slowestMs), rssMiB })}\n`);
process.exit(0);
