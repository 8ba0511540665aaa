/** What goes wrong around a run: damage in the store, a full or read-only disk, a clock that jumps, a second run. */
import { appendFile, mkdir, open, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { beforeEach, describe, expect, it } from 'vitest';
import type { RunRecord } from '../../src/run/run-record.ts';
import { printed, startCli } from '../helpers/cli.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

const PIPELINE = `
name: demo
stages:
  first: { uses: fake-write, with: { text: one } }
  second: { uses: fake-count, with: { steps: 4, data: "\${{ stages.first.outputs.data }}" } }
`;
const CLOCK = fileURLToPath(new URL('../helpers/shifted-clock.js', import.meta.url));

let folder: string;
beforeEach(async () => {
  folder = await temporaryFolder();
  await writeFile(join(folder, 'p.yaml'), PIPELINE);
});

const run = (...flags: string[]) => startCli(folder, ['run', 'p.yaml', ...flags]);

async function record(workspace = '.fr1'): Promise<RunRecord> {
  const { stdout } = await startCli(folder, ['show', '--json', '--workspace', workspace]);
  return JSON.parse(String(stdout)) as RunRecord;
}

const digests = ({ stages }: RunRecord) =>
  stages.map(({ outputs }) => Object.values(outputs).map(({ digest }) => digest));

describe('an artifact in the store', () => {
  it('that lost one bit is named by fr1 verify, made again, and never used', async () => {
    await run();
    const before = await record();
    const file = join(before.stages[0]!.outputs['data']!.path, 'text.txt');
    const handle = await open(file, 'r+');
    const { mtime } = await handle.stat();
    await handle.write(Buffer.from([(await readFile(file))[0]! ^ 1]), 0, 1, 0);
    await handle.close();
    await utimes(file, mtime, mtime);

    const verify = await startCli(folder, ['verify']);
    expect(verify.exitCode).toBe(1);
    expect(String(verify.stdout)).toContain('(first.data): the content of text.txt has changed');
    const again = await run();
    expect(again.exitCode).toBe(0);
    expect(String(again.stdout)).toMatch(/^done in .*: 1 ran, 1 cached$/m);
    expect(digests(await record())).toEqual(digests(before));
    expect(await readFile(file, 'utf8')).toBe('one');
    expect((await startCli(folder, ['verify'])).exitCode).toBe(0);
  });

  it('that was removed is made again', async () => {
    await run();
    const before = await record();
    await rm(before.stages[1]!.outputs['model']!.path, { recursive: true });
    expect(String((await startCli(folder, ['verify'])).stdout)).toContain('(second.model): it is not in the store');
    expect(String((await run()).stdout)).toMatch(/^done in .*: 1 ran, 1 cached$/m);
    expect(digests(await record())).toEqual(digests(before));
  });
});

describe('a clock that jumps', () => {
  it.each([
    ['a year back', -365 * 86_400_000],
    ['a year on', 365 * 86_400_000],
  ])('%s during a run and between runs changes no result, no order of runs and no cache', async (_, shiftMs) => {
    const shifted = (env: Record<string, string>) =>
      startCli(folder, ['run', 'p.yaml', '--set', 'stages.second.with.stepMs=100'], {
        env: { NODE_OPTIONS: `--import=${CLOCK}`, FR1_TEST_CLOCK_SHIFT_MS: String(shiftMs), ...env },
      });
    const during = await shifted({ FR1_TEST_CLOCK_JUMP_AFTER_MS: '400' });
    expect(during.exitCode, String(during.stderr)).toBe(0);
    const { durationMs, id: first, ...jumped } = await record();
    expect(durationMs).toBeGreaterThan(0);
    expect(durationMs).toBeLessThan(60_000);
    const after = await shifted({});
    expect(String(after.stdout)).toContain('everything cached');
    const second = await record();
    expect(second.id > first, `${second.id} after ${first}`).toBe(true);
    const undisturbed = await run();
    expect(String(undisturbed.stdout)).toContain('everything cached');
    expect((await record()).id > second.id).toBe(true);
    expect(digests(jumped as RunRecord)).toEqual(digests(second));
  });
});

describe('two runs in one workspace', () => {
  it.skipIf(process.platform === 'win32')(
    'do not mix: the second ends with 2 and says who is there, and the first is not disturbed',
    async () => {
      const first = run('--set', 'stages.second.with.stepMs=600000');
      await printed(first, '[second]  starts');
      const [second, gc, verify] = await Promise.all([run(), startCli(folder, ['gc']), startCli(folder, ['verify'])]);
      expect([second.exitCode, gc.exitCode, verify.exitCode]).toEqual([2, 2, 2]);
      expect(String(second.stderr)).toContain('error[WORKSPACE_LOCKED]');
      expect(String(second.stderr)).toContain(`process ${first.pid}`);
      expect(first.exitCode).toBeNull();
      first.kill('SIGINT');
      expect((await first).exitCode).toBe(130);
      expect(await readdir(join(folder, '.fr1'))).not.toContain('lock');
    },
  );

  it('started at the same moment: one runs, whichever it is', async () => {
    const both = await Promise.all([run(), run(), run()]);
    const codes = both.map(({ exitCode }) => exitCode).sort();
    expect(codes[0]).toBe(0);
    // Late ones may find the lock free again.
    for (const code of codes) expect([0, 2]).toContain(code);
    expect(String((await run()).stdout)).toContain('everything cached');
  });
});

/** Mounts a small file system; undefined where this process may not. */
async function smallDisk(bytes: number): Promise<(AsyncDisposable & { readonly path: string }) | undefined> {
  const path = join(folder, 'disk');
  await mkdir(path);
  const mounted = await execa('mount', ['-t', 'tmpfs', '-o', `size=${bytes}`, 'tmpfs', path], { reject: false });
  if (mounted.exitCode !== 0) return undefined;
  return {
    path,
    [Symbol.asyncDispose]: async () => void (await execa('umount', ['-l', path], { reject: false })),
  };
}

describe.skipIf(process.platform !== 'linux')('a disk', () => {
  it('that is full ends the run with a clear error, loses nothing, and the next run goes on', async (context) => {
    await using disk = await smallDisk(2 * 2 ** 20);
    if (!disk) return context.skip('mounting a small disk is not permitted here');
    const workspace = join(disk.path, 'ws');
    const flags = ['--workspace', workspace];
    await run('--only', 'first', ...flags);
    const ballast = join(disk.path, 'ballast');
    // What is left does not hold the output of the second stage.
    await writeFile(join(folder, 'p.yaml'), PIPELINE.replace('steps: 4,', 'steps: 4, ballast: 900000,'));
    await appendFile(ballast, Buffer.alloc(2 ** 20 + 2 ** 18));
    const full = await run(...flags);
    expect(full.exitCode).toBe(1);
    expect(String(full.stderr)).toContain('error[DISK_FULL]');
    expect(String(full.stderr)).toContain('make room');
    expect(String(full.stderr)).not.toMatch(/^ +at /m);

    await rm(ballast);
    const again = await run(...flags);
    expect(again.exitCode, String(again.stderr)).toBe(0);
    expect(String(again.stdout)).toMatch(/\[first\] +cached/);
    expect(String(again.stdout)).toMatch(/\[second\] +continues from its last checkpoint/);
    expect((await startCli(folder, ['verify', ...flags])).exitCode).toBe(0);
  });

  it('without room for anything at all is told as such', async (context) => {
    await using disk = await smallDisk(2 ** 20);
    if (!disk) return context.skip('mounting a small disk is not permitted here');
    const workspace = join(disk.path, 'ws');
    await run('--workspace', workspace);
    await appendFile(join(disk.path, 'ballast'), Buffer.alloc(2 ** 20)).catch(() => undefined);
    const { exitCode, stderr } = await run('--workspace', workspace, '--force');
    expect(exitCode).toBe(1);
    expect(String(stderr)).toContain('error[DISK_FULL]');
    expect(String(stderr)).not.toMatch(/^ +at /m);
  });

  it('that is read-only is told as such, and what it holds can still be shown and verified', async (context) => {
    await using disk = await smallDisk(2 ** 20);
    if (!disk) return context.skip('mounting a small disk is not permitted here');
    const flags = ['--workspace', join(disk.path, 'ws')];
    await run(...flags);
    await execa('mount', ['-o', 'remount,ro', disk.path]);
    const { exitCode, stderr } = await run(...flags);
    expect(exitCode).toBe(2);
    expect(String(stderr)).toMatch(/error\[WORKSPACE_NOT_WRITABLE\]\n.*the file system is read-only/);
    for (const command of ['show', 'verify']) {
      const shown = await startCli(folder, [command, ...flags]);
      expect(shown.exitCode, String(shown.stderr)).toBe(0);
    }
    expect((await startCli(folder, ['plan', 'p.yaml', ...flags])).exitCode).toBe(0);
  });
});
