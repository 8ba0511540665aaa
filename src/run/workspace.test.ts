import { access, mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { temporaryFolder } from '../../test/helpers/temporary-folder.ts';
import { findRun, makeRunId, markCutOffRuns, nextRunId, readEvents } from './recorder.ts';
import { type CacheEntry, Workspace, workspaceBeside } from './workspace.ts';

const digest = (letter: string) => `sha256:${letter.repeat(64)}`;

const entry = (stage: string, fingerprint: string): CacheEntry => ({
  version: 1,
  fingerprint,
  fields: { version: 1, kind: 'k', stageVersion: 1, options: {}, inputs: {}, seed: 1, engine: { fr1: '1' } },
  stage,
  outputs: {},
  metrics: {},
  tables: [],
  durationMs: 1,
  finishedAt: '2026-01-01T00:00:00.000Z',
});

describe('Workspace', () => {
  it('lies beside the pipeline file and ignores itself in git', async () => {
    const folder = await temporaryFolder();
    const workspace = new Workspace(workspaceBeside(join(folder, 'pipeline.yaml')));
    expect(workspace.directory).toBe(join(folder, '.fr1'));
    await (await workspace.open()).release();
    expect(await readdir(workspace.directory)).toContain('.gitignore');
  });

  it('remembers the last fingerprint of each stage when many end together', async () => {
    const workspace = new Workspace(await temporaryFolder());
    await using _lock = await workspace.open();
    const letters = ['a', 'b', 'c', 'd', 'e', 'f'];
    await Promise.all(letters.map((letter) => workspace.writeCache('p', entry(letter, digest(letter)))));
    for (const letter of letters) {
      expect((await workspace.readLastOf('p', letter))?.fingerprint).toBe(digest(letter));
    }
    expect(await workspace.readLastOf('other', 'a')).toBeUndefined();
  });

  it('clears leftovers of a crash when it is opened, and keeps unfinished work', async () => {
    const workspace = new Workspace(await temporaryFolder());
    await (await workspace.open()).release();
    await workspace.prepareWork(digest('a'), ['data']);
    const { state } = await workspace.prepareWork(digest('b'), ['data']);
    await writeFile(join(state, 'checkpoint'), '1');
    await workspace.writeCache('p', entry('a', digest('a')));
    await mkdir(join(workspace.directory, 'trash', 'half-removed'), { recursive: true });
    await writeFile(join(workspace.directory, 'cache', '.tmp-x'), '');

    await using _lock = await workspace.open();
    expect(await readdir(join(workspace.directory, 'work'))).toEqual(['b'.repeat(64)]);
    expect(await workspace.hasState(digest('b'))).toBe(true);
    await expect(access(join(workspace.directory, 'trash', 'half-removed'))).rejects.toThrow();
    await expect(access(join(workspace.directory, 'cache', '.tmp-x'))).rejects.toThrow();
  });

  it('empties the outputs of an earlier start and keeps its state', async () => {
    const workspace = new Workspace(await temporaryFolder());
    const first = await workspace.prepareWork(digest('a'), ['data']);
    await writeFile(join(first.outputs['data']!, 'half'), '');
    await writeFile(join(first.state, 'checkpoint'), '');
    const second = await workspace.prepareWork(digest('a'), ['data']);
    expect(await readdir(second.outputs['data']!)).toEqual([]);
    expect(await readdir(second.state)).toEqual(['checkpoint']);
  });

  it('hashes a local input again only where size or time changed', async () => {
    const folder = await temporaryFolder();
    const workspace = new Workspace(join(folder, '.fr1'));
    await (await workspace.open()).release();
    const input = join(folder, 'input');
    await mkdir(input);
    await writeFile(join(input, 'a'), '1');
    const before = await workspace.digestLocalInput(input, { remember: true });
    expect(await workspace.digestLocalInput(input, { remember: true })).toBe(before);
    await writeFile(join(input, 'a'), '12');
    expect(await workspace.digestLocalInput(input, { remember: true })).not.toBe(before);
  });

  it('names an unreadable file of its own', async () => {
    const workspace = new Workspace(await temporaryFolder());
    await (await workspace.open()).release();
    await writeFile(join(workspace.directory, 'cache', `${'a'.repeat(64)}.json`), '{');
    await expect(workspace.readCache(digest('a'))).rejects.toMatchObject({ code: 'WORKSPACE_UNREADABLE' });
  });
});

describe('runs', () => {
  const record = { version: 1, id: '', status: 'running', stages: [{ name: 'a', status: 'running' }] };

  async function workspaceWithRuns(...ids: string[]): Promise<Workspace> {
    const workspace = new Workspace(await temporaryFolder());
    await (await workspace.open()).release();
    for (const id of ids) {
      await mkdir(join(workspace.directory, 'runs', id));
      await writeFile(join(workspace.directory, 'runs', id, 'run.json'), JSON.stringify({ ...record, id }));
    }
    return workspace;
  }

  it('sort by time of start', () => {
    const ids = [1, 2, 3].map((day) => makeRunId(new Date(Date.UTC(2026, 0, day, 9, 4, 5, 6))));
    expect(ids[0]).toBe('20260101-090405-006');
    expect([...ids].sort()).toEqual(ids);
  });

  it('sort after those before them although the clock was set back', async () => {
    const workspace = await workspaceWithRuns('20260102-235959-999', 'not-a-run');
    expect(await nextRunId(workspace, new Date(Date.UTC(2026, 0, 1)))).toBe('20260103-000000-000');
    expect(await nextRunId(workspace, new Date(Date.UTC(2026, 1, 1)))).toBe('20260201-000000-000');
    expect(await nextRunId(new Workspace(await temporaryFolder()), new Date(0))).toBe('19700101-000000-000');
  });

  it('are found by id, beginning, or as the last', async () => {
    const workspace = await workspaceWithRuns('20260101-090405-006', '20260102-090405-006');
    expect((await findRun(workspace, 'last')).id).toBe('20260102-090405-006');
    expect((await findRun(workspace, '20260101')).id).toBe('20260101-090405-006');
    await expect(findRun(workspace, '2026')).rejects.toMatchObject({
      code: 'RUN_UNKNOWN',
      message: expect.stringMatching(/2 runs/),
    });
    await expect(findRun(workspace, 'x')).rejects.toMatchObject({ code: 'RUN_UNKNOWN' });
  });

  it('that were killed are marked as cut off', async () => {
    const workspace = await workspaceWithRuns('20260101-090405-006');
    await markCutOffRuns(workspace);
    expect(await findRun(workspace, 'last')).toMatchObject({ status: 'cut-off', stages: [{ status: 'interrupted' }] });
  });

  it('give their events without the line that a crash cut short', async () => {
    const workspace = await workspaceWithRuns('r');
    const path = join(workspace.directory, 'runs', 'r', 'events.jsonl');
    await writeFile(path, '{"type":"run-warn","message":"a"}\n{"type":"ru');
    expect(await readEvents(workspace, 'r')).toEqual([{ type: 'run-warn', message: 'a' }]);
  });
});
