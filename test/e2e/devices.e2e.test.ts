/** Two fr1 processes on one machine: who has which device when. The devices are parts of the CPU. */
import { readFile, writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { RunEvent } from '../../src/run/events.ts';
import { LEASE_DIRECTORY, printed, startCli } from '../helpers/cli.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

interface Holding {
  readonly device: string;
  readonly who: string;
  readonly from: number;
  readonly to: number;
}

function eventsIn(stdout: unknown): RunEvent[] {
  const lines = String(stdout).trimEnd().split('\n');
  return lines.map((line) => JSON.parse(line) as RunEvent);
}

function holdingsIn(process: string, events: readonly RunEvent[]): Holding[] {
  return events.flatMap((event) => {
    if (event.type !== 'device-leased') return [];
    const end = events.find((each) => each.type === 'device-released' && each.stage === event.stage)!;
    const who = `${process}/${event.stage}`;
    return [{ device: event.device, who, from: Date.parse(event.time), to: Date.parse(end.time) }];
  });
}

function overlaps(holdings: readonly Holding[]): string[] {
  const sorted = [...holdings].sort((a, b) => a.from - b.from);
  return sorted.flatMap((one, i) =>
    sorted
      .slice(i + 1)
      .filter((other) => other.device === one.device && other.from < one.to)
      .map((other) => `${one.who} and ${other.who} on ${one.device}`),
  );
}

const pipeline = (stages: number) =>
  `stages:\n${Array.from({ length: stages }, (_, i) => `  d${i}: { uses: fake-device, with: { ms: ${200 + i} } }`).join('\n')}\n`;

describe('two runs at once', () => {
  it('on two devices never have one device at the same time, use both, and say how much', async () => {
    const folder = await temporaryFolder();
    await writeFile(join(folder, 'p.yaml'), pipeline(5));
    const runs = await Promise.all(
      ['a', 'b'].map((name) =>
        startCli(folder, [
          'run',
          'p.yaml',
          '-w',
          name,
          '--device',
          'cpu:0,cpu:1',
          '--threads',
          '1',
          '-j',
          '4',
          '--json',
        ]),
      ),
    );
    expect(runs.map(({ exitCode }) => exitCode)).toEqual([0, 0]);
    const all = runs.map(({ stdout }) => eventsIn(stdout));
    const holdings = all.flatMap((events, i) => holdingsIn('ab'[i]!, events));
    expect(holdings).toHaveLength(10);
    expect(overlaps(holdings)).toEqual([]);
    expect(new Set(holdings.map(({ device }) => device))).toEqual(new Set(['cpu:0', 'cpu:1']));
    if (availableParallelism() > 1) {
      const atOnce = holdings.some((one) => holdings.some((other) => other.from < one.to && one.from < other.from));
      expect(atOnce, 'two devices in use at the same time').toBe(true);
    }
    for (const events of all) {
      const usage = events.filter((event) => event.type === 'device-usage');
      expect(usage.length).toBeGreaterThan(0);
      for (const { share, leasedMs } of usage) {
        expect(share).toBeGreaterThan(0);
        expect(leasedMs).toBeGreaterThan(150);
      }
    }
    const ledger = JSON.parse(await readFile(join(LEASE_DIRECTORY, 'ledger.json'), 'utf8'));
    expect(ledger.entries).toEqual([]);
  });

  it('on one device: the second says for whom it waits, and goes on when the first is killed', async () => {
    const folder = await temporaryFolder();
    await writeFile(join(folder, 'p.yaml'), 'name: long\nstages: { d: { uses: fake-device, with: { ms: 60000 } } }');
    await writeFile(join(folder, 'q.yaml'), 'stages: { d: { uses: fake-device } }');
    const first = startCli(folder, ['run', 'p.yaml', '-w', 'a']);
    await printed(first, '[d]  starts on cpu');
    const second = startCli(folder, ['run', 'q.yaml', '-w', 'b']);
    await printed(second, `[d]  waits for cpu, which process ${first.pid} (long/d) has`);
    first.kill('SIGKILL');
    const { exitCode, stdout } = await second;
    expect(exitCode).toBe(0);
    expect(String(stdout)).toMatch(/^cpu in use \d+ % of the time \(1 lease\)$/m);
  });
});
