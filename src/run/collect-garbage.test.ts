import { access, mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { runPlan } from '../../test/helpers/run-plan.ts';
import { temporaryFolder } from '../../test/helpers/temporary-folder.ts';
import { hexOf } from '../artifacts/store.ts';
import { collectGarbage, type GarbageReport, pinRun } from './collect-garbage.ts';
import { verifyStore } from './verify-store.ts';
import { Workspace } from './workspace.ts';

const PIPELINE = `
name: p
stages:
  a: { uses: fake-write, with: { text: one } }
  b: { uses: fake-write, with: { text: two, data: "\${{ stages.a.outputs.data }}" } }
`;

let folder: string;
beforeEach(async () => {
  folder = await temporaryFolder();
});

const run = (...sets: string[]) => runPlan(folder, PIPELINE, { sets });
const exists = (...path: string[]) =>
  access(join(folder, '.fr1', ...path)).then(
    () => true,
    () => false,
  );

async function collect(keepRuns: number, dryRun = false): Promise<GarbageReport> {
  const workspace = new Workspace(join(folder, '.fr1'));
  await using _lock = await workspace.lock();
  return collectGarbage(workspace, { keepRuns, dryRun });
}

const removed = (report: GarbageReport, what: string) =>
  report.removed.filter((item) => item.what === what).flatMap(({ of }) => of);

describe('collectGarbage()', () => {
  it('keeps what the last runs made, also what they took from the cache', async () => {
    await run();
    await run('stages.b.with.text=zwei');
    const last = await run('stages.b.with.text=drei');
    const report = await collect(1);
    expect(removed(report, 'artifact')).toEqual(['b.data', 'b.data']);
    expect(removed(report, 'cache-entry')).toEqual(['b', 'b']);
    expect(report).toMatchObject({ keptArtifacts: 2, keptRuns: [last.record.id] });
    expect(report.freedBytes).toBeGreaterThan(0);
    const again = await run('stages.b.with.text=drei');
    expect(again.outcome).toMatchObject({ cached: 2, ran: 0 });
    expect((await run()).outcome).toMatchObject({ cached: 1, ran: 1 });
  });

  it('keeps what a pinned run made until the pin is gone', async () => {
    const first = await run();
    await run('stages.b.with.text=zwei');
    const workspace = new Workspace(join(folder, '.fr1'));
    await pinRun(workspace, first.record.id, true);
    expect(removed(await collect(1), 'artifact')).toEqual([]);
    await pinRun(workspace, first.record.id, false);
    expect(removed(await collect(1), 'artifact')).toEqual(['b.data']);
  });

  it('changes nothing in a dry run, and says what it would remove', async () => {
    await run();
    await run('stages.b.with.text=zwei');
    const before = (await readdir(join(folder, '.fr1'), { recursive: true })).sort();
    const dry = await collect(1, true);
    expect((await readdir(join(folder, '.fr1'), { recursive: true })).sort()).toEqual(before);
    const real = await collect(1);
    expect({ ...dry, dryRun: false }).toEqual(real);
    expect(await collect(1)).toMatchObject({ removed: [], freedBytes: 0 });
  });

  it('keeps the checkpoints of a stage that a kept run did not finish, and removes abandoned ones', async () => {
    const yaml = (rate: number) => `stages: { c: { uses: fake-count, with: { steps: 4, failAt: 2, rate: ${rate} } } }`;
    const abandoned = await runPlan(folder, yaml(1));
    const recent = await runPlan(folder, yaml(2));
    const [old, kept] = [abandoned, recent].map(({ record }) => hexOf(record.stages[0]!.fingerprint!));
    await writeFile(join(folder, '.fr1', 'work', kept!, 'state', 'train-state.safetensors.123.tmp'), 'half');
    const report = await collect(1);
    expect(report.removed.map(({ what }) => what).sort()).toEqual(['temporary', 'work']);
    expect(await exists('work', old!)).toBe(false);
    expect(await readdir(join(folder, '.fr1', 'work', kept!, 'state'))).toEqual(['checkpoint.json']);
  });

  it('removes temporary files, trash, and all results with nothing to keep', async () => {
    const { record } = await run();
    for (const name of ['.tmp-a', 'cache/.tmp-b', `runs/${record.id}/.tmp-run.json-c`, 'lock.stale-d']) {
      await writeFile(join(folder, '.fr1', name), 'x');
    }
    await mkdir(join(folder, '.fr1', 'trash', 'half', 'deep'), { recursive: true });
    const report = await collect(0);
    expect(report.removed.filter(({ what }) => what === 'temporary')).toHaveLength(5);
    expect(report).toMatchObject({ keptArtifacts: 0, keptBytes: 0 });
    const left = (await readdir(join(folder, '.fr1'), { recursive: true })).sort();
    expect(left.filter((name) => /tmp|stale|half|^store.|^lock/.test(name))).toEqual([]);
    expect(await exists('runs', record.id, 'run.json')).toBe(true);
  });
});

describe('verifyStore()', () => {
  it('names a damaged artifact by what made it; the next run makes it again', async () => {
    const first = await run();
    const { path, digest } = first.record.stages[1]!.outputs['data']!;
    await writeFile(join(path, 'text.txt'), 'twoonf');
    const workspace = new Workspace(join(folder, '.fr1'));
    const report = await verifyStore(workspace);
    expect(report).toMatchObject({
      intact: 1,
      damaged: [{ digest, madeBy: ['b.data'], reason: 'the content of text.txt has changed' }],
      missing: [],
    });
    const again = await run();
    expect(again.outcome).toMatchObject({ ran: 1, cached: 1 });
    expect(again.record.stages[1]).toMatchObject({ reason: { kind: 'damaged', output: 'data' } });
    expect(again.record.stages[1]!.outputs['data']!.digest).toBe(digest);
    expect(await verifyStore(new Workspace(workspace.directory))).toMatchObject({ intact: 2, damaged: [] });
  });

  it('names an artifact that is gone', async () => {
    const { record } = await run();
    const workspace = new Workspace(join(folder, '.fr1'));
    await workspace.store.remove(record.stages[0]!.outputs['data']!.digest);
    expect(await verifyStore(workspace)).toMatchObject({ intact: 1, missing: [{ madeBy: ['a.data'] }] });
  });
});
