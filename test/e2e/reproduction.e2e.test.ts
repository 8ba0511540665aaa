/** What a job in CI relies on, with a model that is really trained: gates, the lock, and what is printed when they fail. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { startCli } from '../helpers/cli.ts';
import { BASE_MODEL } from '../helpers/tiny-quickstart.ts';

/** Few updates, after which about every second name is right, and none without them. */
const PIPELINE = `
seed: 1
stages:
  birds: { uses: dataset, with: { source: procedural-birds, seenClasses: 4, unseenClasses: 4, sftShots: 10, testImages: 12 } }
  thoughts: { uses: rewrite, with: { data: "\${{ stages.birds.outputs.sft }}" } }
  sft:
    uses: sft
    with:
      model: ${JSON.stringify(BASE_MODEL)}
      data: \${{ stages.thoughts.outputs.data }}
      steps: 24
      batchSize: 8
      microBatchSize: 8
      learningRate: 1e-3
    expect: { finalLoss: { atMost: 0.5 } }
  test:
    uses: eval
    with: { model: "\${{ stages.sft.outputs.model }}", data: { seen: "\${{ stages.birds.outputs.seen }}" }, modes: [open] }
    expect: { seen_open: { atLeast: 0.25 } }
`;

let folder: string;
const run = (...flags: string[]) =>
  startCli(folder, ['run', 'p.yaml', '--threads', '1', ...flags], { timeoutMs: 240_000 });

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'fr1-reproduction-'));
  await writeFile(join(folder, 'p.yaml'), PIPELINE);
  const { exitCode, stdout } = await run('--lock');
  expect(exitCode, String(stdout)).toBe(0);
}, 250_000);

afterAll(() => rm(folder, { recursive: true, force: true, maxRetries: 3 }));

it('passes its gates and the lock', async () => {
  expect((await run('--locked')).exitCode).toBe(0);
});

it('runs nothing under --locked when a rate has changed, and names it', async () => {
  const { exitCode, stderr } = await run('--locked', '--set', 'stages.sft.with.learningRate=1e-6');
  expect(exitCode).toBe(1);
  expect(stderr).toContain('stages.sft.options.learningRate: 0.001 -> 0.000001');
});

it('ends with 1 when the result has drifted, and prints expected, found, the interval and the first change', async () => {
  const drifted = ['--set', 'stages.sft.with.learningRate=1e-6', '--set', 'stages.sft.expect.finalLoss.atMost=9'];
  const { exitCode, stdout, stderr } = await run(...drifted);
  expect(exitCode).toBe(1);
  const printed = `${stdout}\n${stderr}`;
  expect(printed).toMatch(/expected seen_open at least 0\.25, got 0 \[0, 0\.\d+\]/);
  expect(printed).toMatch(
    /first difference to p\.fr1\.lock .*\n {2}stages\.sft\.options\.learningRate: 0\.001 -> 0\.000001/,
  );
}, 250_000);
