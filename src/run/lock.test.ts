import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir, readFile, utimes, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { temporaryFolder } from '../../test/helpers/temporary-folder.ts';
import { lockWorkspace } from './lock.ts';

/** The pid of a process that has ended. */
async function endedPid(): Promise<number> {
  const child = spawn(process.execPath, ['-e', '0']);
  await once(child, 'exit');
  return child.pid!;
}

describe('lockWorkspace()', () => {
  it('keeps a second run out and names the owner', async () => {
    const folder = await temporaryFolder();
    await using _lock = await lockWorkspace(folder);
    await expect(lockWorkspace(folder)).rejects.toMatchObject({
      code: 'WORKSPACE_LOCKED',
      message: expect.stringContaining(`process ${process.pid} on ${hostname()}`),
    });
  });

  it('is free again after release, and leaves no file', async () => {
    const folder = await temporaryFolder();
    const lock = await lockWorkspace(folder);
    await lock.release();
    await lock.release();
    expect(await readdir(folder)).toEqual([]);
    await (await lockWorkspace(folder)).release();
  });

  it('takes over the lock of a process that has ended', async () => {
    const folder = await temporaryFolder();
    const pid = await endedPid();
    await writeFile(join(folder, 'lock'), JSON.stringify({ pid, host: hostname(), startedAt: 'then' }));
    await using lock = await lockWorkspace(folder);
    expect(lock.recoveredFrom).toBe(pid);
    expect(JSON.parse(await readFile(join(folder, 'lock'), 'utf8')).pid).toBe(process.pid);
  });

  it.runIf(process.platform === 'linux')('takes over when the pid belongs to a later process', async () => {
    const folder = await temporaryFolder();
    const owner = { pid: process.pid, host: hostname(), processStart: '1', startedAt: 'then' };
    await writeFile(join(folder, 'lock'), JSON.stringify(owner));
    await using lock = await lockWorkspace(folder);
    expect(lock.recoveredFrom).toBe(process.pid);
  });

  it.runIf(process.platform === 'linux')('takes over from a process that nobody has reaped', async () => {
    const folder = await temporaryFolder();
    // The child outlives the shell, which becomes a program that does not wait for it.
    const parent = spawn('sh', ['-c', 'sleep 0.3 & echo $!; exec sleep 30'], { stdio: ['ignore', 'pipe', 'ignore'] });
    try {
      const [printed] = (await once(parent.stdout, 'data')) as [Buffer];
      const pid = Number(printed.toString());
      await expect.poll(() => readFile(`/proc/${pid}/stat`, 'utf8'), { timeout: 10_000 }).toMatch(/\) Z /);
      await writeFile(join(folder, 'lock'), JSON.stringify({ pid, host: hostname(), startedAt: 'then' }));
      await using lock = await lockWorkspace(folder);
      expect(lock.recoveredFrom).toBe(pid);
    } finally {
      parent.kill();
    }
  });

  it('waits for a process that is about to end', async () => {
    const folder = await temporaryFolder();
    const child = spawn(process.execPath, ['-e', 'setTimeout(() => {}, 30_000)']);
    const owner = { pid: child.pid!, host: hostname(), startedAt: 'then' };
    await writeFile(join(folder, 'lock'), JSON.stringify(owner));
    setTimeout(() => child.kill('SIGKILL'), 100);
    await using lock = await lockWorkspace(folder);
    expect(lock.recoveredFrom).toBe(child.pid);
  });

  it('trusts the lock of another machine while it is touched, and takes it over when it is old', async () => {
    const folder = await temporaryFolder();
    const path = join(folder, 'lock');
    await writeFile(path, JSON.stringify({ pid: 1, host: 'elsewhere', startedAt: 'then' }));
    await expect(lockWorkspace(folder)).rejects.toMatchObject({ code: 'WORKSPACE_LOCKED' });
    const old = new Date(Date.now() - 120_000);
    await utimes(path, old, old);
    await (await lockWorkspace(folder)).release();
  });

  it('lets exactly one of many take over a stale lock', async () => {
    const folder = await temporaryFolder();
    const stale = { pid: await endedPid(), host: hostname(), startedAt: 'then' };
    await writeFile(join(folder, 'lock'), JSON.stringify(stale));
    const results = await Promise.allSettled(Array.from({ length: 8 }, () => lockWorkspace(folder)));
    const held = results.filter((result) => result.status === 'fulfilled');
    expect(held).toHaveLength(1);
    for (const result of results) {
      if (result.status === 'rejected') expect(result.reason).toMatchObject({ code: 'WORKSPACE_LOCKED' });
    }
    await held[0]?.value.release();
  });
});
