import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeEach, describe, expect, it } from 'vitest';
import { temporaryFolder } from '../../test/helpers/temporary-folder.ts';
import type { DeviceInfo } from './lease.ts';
import { grantsOf, type LedgerEntry, MachineLeases } from './machine-leases.ts';

let folder: string;
beforeEach(async () => {
  folder = await temporaryFolder();
});

const device = (id: string, threads = 1): DeviceInfo => ({
  id,
  provider: 'cpu',
  description: id,
  threads,
  memoryBytes: 1000,
});

const entry = (ticket: number, candidates: readonly string[], rest: Partial<LedgerEntry> = {}): LedgerEntry => ({
  pid: 1,
  ticket,
  holder: `h${ticket}`,
  since: '',
  candidates,
  threads: 1,
  memoryBytes: 0,
  ...rest,
});

describe('grantsOf()', () => {
  const capacity = { threads: 4, memoryBytes: 1000 };
  const grants = (...entries: LedgerEntry[]) => Object.fromEntries(grantsOf(entries, capacity));

  it('lends a GPU to one, and the next request to another that it names', () => {
    expect(
      grants(entry(1, ['cuda:0'], { device: 'cuda:0' }), entry(2, ['cuda:0']), entry(3, ['cuda:0', 'cuda:1'])),
    ).toEqual({
      3: 'cuda:1',
    });
  });

  it('lends the CPU by threads and memory', () => {
    expect(grants(entry(1, ['cpu'], { threads: 3, device: 'cpu' }), entry(2, ['cpu']))).toEqual({ 2: 'cpu' });
    const large = { threads: 1, memoryBytes: 600 };
    expect(grants(entry(1, ['cpu'], { ...large, device: 'cpu' }), entry(2, ['cpu'], large))).toEqual({});
  });

  it('lends a part of the CPU to one holder', () => {
    expect(grants(entry(1, ['cpu:0'], { device: 'cpu:0' }), entry(2, ['cpu:0']), entry(3, ['cpu:1']))).toEqual({
      3: 'cpu:1',
    });
  });

  it('does not let small requests pass a large one that asked before', () => {
    expect(grants(entry(1, ['cpu'], { device: 'cpu' }), entry(2, ['cpu'], { threads: 4 }), entry(3, ['cpu']))).toEqual(
      {},
    );
    expect(grants(entry(1, ['cuda:0']), entry(2, ['cuda:0']))).toEqual({ 1: 'cuda:0' });
  });
});

describe('MachineLeases', () => {
  it('serves in the order of asking, and never two at once', async () => {
    const leases = new MachineLeases(folder, { threads: 1 });
    const log: string[] = [];
    const first = await leases.acquire({ candidates: [device('cpu')], holder: 'a' });
    log.push('+a');
    const rest: Promise<void>[] = [];
    for (const [i, holder] of ['b', 'c'].entries()) {
      const use = async () => {
        await using lease = await leases.acquire({ candidates: [device('cpu')], holder });
        log.push(`+${holder}`);
        await sleep(30);
        log.push(`-${holder}`);
        expect(lease.device.id).toBe('cpu');
      };
      rest.push(use());
      await expect.poll(() => leases.entries(), { timeout: 10_000 }).toHaveLength(2 + i);
    }
    log.push('-a');
    await first[Symbol.asyncDispose]();
    await Promise.all(rest);
    expect(log).toEqual(['+a', '-a', '+b', '-b', '+c', '-c']);
    expect(await leases.entries()).toEqual([]);
    expect(await readdir(folder)).toEqual(['ledger.json']);
  });

  it('leaves the queue when the wait is aborted', async () => {
    const told: string[] = [];
    const leases = new MachineLeases(folder, { threads: 1, onWait: (_, by) => told.push(by.holder) });
    const held = await leases.acquire({ candidates: [device('cpu')], holder: 'a' });
    const controller = new AbortController();
    const reason = new Error('no longer wanted');
    const waiting = leases.acquire({ candidates: [device('cpu')], holder: 'b', signal: controller.signal });
    await expect.poll(() => told, { timeout: 10_000 }).toEqual(['a']);
    controller.abort(reason);
    await expect(waiting).rejects.toBe(reason);
    expect((await leases.entries()).map(({ holder }) => holder)).toEqual(['a']);
    await held[Symbol.asyncDispose]();
  });

  it('does not count what a killed process held', async () => {
    const child = spawn(process.execPath, ['-e', 'setTimeout(() => {}, 60_000)']);
    await once(child, 'spawn');
    const held = entry(7, ['cuda:0'], { pid: child.pid!, device: 'cuda:0' });
    await writeFile(join(folder, 'ledger.json'), JSON.stringify({ version: 1, entries: [held] }));
    const leases = new MachineLeases(folder, { threads: 1 });
    const waiting = leases.acquire({ candidates: [device('cuda:0')], holder: 'next' });
    await expect.poll(() => leases.entries(), { timeout: 10_000 }).toHaveLength(2);
    child.kill('SIGKILL');
    await (await waiting)[Symbol.asyncDispose]();
    expect(JSON.parse(await readFile(join(folder, 'ledger.json'), 'utf8')).entries).toEqual([]);
  });

  it('starts anew from a ledger that was cut short', async () => {
    await writeFile(join(folder, 'ledger.json'), '{"version": 1, "ent');
    const lease = await new MachineLeases(folder).acquire({ candidates: [device('cpu')], holder: 'a' });
    await lease[Symbol.asyncDispose]();
  });
});
