/**
 * `kill -9` at random moments of a pipeline that really trains, then the same command again: every run must end with the
 * bytes and metrics of one that nobody disturbed, and leave nothing behind.
 *
 * Half of the moments are random times, so that long stages are hit often; the other half follow a random event of the
 * undisturbed run by up to 40 ms, so that short stages and the moments between stages are hit too.
 *
 *   FR1_CRASH_KILLS  how often to kill       @default 60
 *   FR1_CRASH_SEED   seed of the moments     @default 1
 */
import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { RandomStream } from '../../src/engine/random.ts';
import type { RunEvent } from '../../src/run/events.ts';
import { type CliProcess, startCli } from '../helpers/cli.ts';
import { commandsWith, descendantsOf, survivors } from '../helpers/processes.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';
import { type FinishedRun, finished, startQuickstart } from '../helpers/tiny-quickstart.ts';

const KILLS = Number(process.env['FR1_CRASH_KILLS'] ?? 60);
const KILLS_PER_PIPELINE = 4;
const random = new RandomStream(Number(process.env['FR1_CRASH_SEED'] ?? 1), 'kill');

/** A busy machine may take long; a run that hangs ends the test all the same. */
const start = (workspace: string) => startQuickstart(workspace, [], ['--json'], { timeoutMs: 1_800_000 });

const resultOf = ({ record }: FinishedRun) =>
  record.stages.map(({ name, outputs, metrics }) => ({
    name,
    metrics,
    digests: Object.fromEntries(Object.entries(outputs).map(([output, { digest }]) => [output, digest])),
  }));

it.skipIf(process.platform === 'win32')(`ends with the same bytes after ${KILLS} kills at random moments`, async () => {
  const undisturbed = await temporaryFolder();
  const startedAt = performance.now();
  const whole = await finished(undisturbed, start(undisturbed));
  const wholeMs = performance.now() - startedAt;
  const expected = resultOf(whole);
  const eventCount = (await eventsOf(undisturbed))[0]!.length;
  expect(expected).toHaveLength(9);

  const moments: string[] = [];
  let [pipelines, resumed] = [0, 0];
  while (moments.length < KILLS) {
    const workspace = await temporaryFolder();
    const planned = Math.min(KILLS_PER_PIPELINE, KILLS - moments.length);
    for (let i = 0; i < planned; i++) {
      const child = start(workspace);
      if (random.uniform() < 0.5) await momentAfter(child, random.uniform() * wholeMs * 0.6);
      else await eventOf(child, Math.floor(random.uniform() * eventCount * 0.6), random.uniform() * 40);
      const helpers = child.exitCode === null ? await descendantsOf(child.pid!) : [];
      child.kill('SIGKILL');
      const { signal } = await child;
      expect(await survivors(helpers), 'orphans').toEqual([]);
      if (signal === 'SIGKILL') moments.push(await momentOf(workspace));
    }
    const last = await finished(workspace, start(workspace));
    expect(resultOf(last), `after ${moments.slice(-planned).join(', ')}`).toEqual(expected);
    resumed += last.record.stages.filter((stage) => stage.resumed).length;
    pipelines++;
    await expectNothingLeft(workspace);
    await rm(workspace, { recursive: true, force: true });
  }

  const counts = new Map<string, number>();
  for (const moment of moments) counts.set(moment, (counts.get(moment) ?? 0) + 1);
  console.log(
    [
      `${moments.length} kills in ${pipelines} pipelines, all with the same ${expected.length} results`,
      `an undisturbed run: ${(wholeMs / 1000).toFixed(1)} s, ${eventCount} events`,
      `stages of the last runs that went on from a checkpoint: ${resumed}`,
      ...[...counts].sort(([, a], [, b]) => b - a).map(([moment, count]) => `  ${count} x ${moment}`),
    ].join('\n'),
  );
  expect(moments.length).toBeGreaterThanOrEqual(KILLS);
});

/** After `ms`, or when the process ends before. */
async function momentAfter(child: CliProcess, ms: number): Promise<void> {
  const end = new AbortController();
  child.once('exit', () => end.abort());
  await sleep(ms, undefined, { signal: end.signal }).catch(() => undefined);
}

/** A while after the process has printed so many events, or when it ends before. */
async function eventOf(child: CliProcess, count: number, ms: number): Promise<void> {
  let seen = 0;
  await new Promise<void>((resolve) => {
    child.stdout!.on('data', (chunk: Buffer | string) => {
      seen += String(chunk).split('\n').length - 1;
      if (seen >= count) resolve();
    });
    child.once('exit', () => resolve());
  });
  await momentAfter(child, ms);
}

/** The stages that were under way at the kill, by the events on disk. */
async function momentOf(workspace: string): Promise<string> {
  const events = (await eventsOf(workspace)).at(-1);
  if (events === undefined || events.length === 0) return 'before the first event';
  const running = new Set<string>();
  for (const event of events) {
    if (event.type === 'stage-started') running.add(event.stage);
    else if (event.type === 'stage-finished' || event.type === 'stage-failed') running.delete(event.stage);
  }
  if (events.at(-1)!.type === 'run-finished') return 'after the last event';
  return running.size === 0 ? 'between stages' : [...running].sort().join(' + ');
}

/** The complete events of each run, by start. */
async function eventsOf(workspace: string): Promise<RunEvent[][]> {
  const runs = (await readdir(join(workspace, 'runs')).catch(() => [])).sort();
  return Promise.all(
    runs.map(async (run) => {
      const text = await readFile(join(workspace, 'runs', run, 'events.jsonl'), 'utf8').catch(() => '');
      const lines = text.slice(0, text.lastIndexOf('\n') + 1).split('\n');
      return lines.filter((line) => line !== '').map((line) => JSON.parse(line) as RunEvent);
    }),
  );
}

async function expectNothingLeft(workspace: string): Promise<void> {
  const verify = await startCli(workspace, ['verify', '--workspace', workspace]);
  expect(verify.exitCode, String(verify.stdout)).toBe(0);
  const gc = await startCli(workspace, ['gc', '--keep', '1', '--workspace', workspace]);
  expect(gc.exitCode, String(gc.stderr)).toBe(0);
  const names = await readdir(workspace, { recursive: true });
  expect(names.filter((name) => /tmp|stale|(^|\/)lock$/.test(name))).toEqual([]);
  expect(await readdir(join(workspace, 'trash')).catch(() => [])).toEqual([]);
  expect(await readdir(join(workspace, 'work'))).toEqual([]);
  expect(await commandsWith(workspace)).toEqual([]);
}
