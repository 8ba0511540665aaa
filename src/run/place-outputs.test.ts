import { lstat, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { temporaryFolder } from '../../test/helpers/temporary-folder.ts';
import type { PipelineOutput } from '../config/types.ts';
import type { OutputRecord } from './events.ts';
import { linkedDigests, OutputPlacer } from './place-outputs.ts';
import { Workspace } from './workspace.ts';

let folder: string;
let workspace: Workspace;
beforeEach(async () => {
  folder = await temporaryFolder();
  workspace = new Workspace(join(folder, '.fr1'));
  await (await workspace.open()).release();
});

async function artifact(text: string): Promise<OutputRecord> {
  const { outputs } = await workspace.prepareWork(`sha256:${'a'.repeat(64)}`, ['data']);
  await mkdir(join(outputs['data']!, 'deep'));
  await writeFile(join(outputs['data']!, 'deep', 'text.txt'), text);
  const { digest } = await workspace.store.commit(outputs['data']!);
  return { type: 'image-data', digest, path: workspace.store.pathOf(digest) };
}

const output = (mode: 'copy' | 'link' = 'copy'): PipelineOutput => ({
  written: 'results/data',
  path: join(folder, 'results', 'data'),
  source: { kind: 'artifact-ref', stage: 's', output: 'data', type: 'image-data' },
  mode,
  position: { file: 'p.yaml', line: 3, col: 5 },
});

const place = (of: PipelineOutput, what: OutputRecord) => new OutputPlacer(workspace).place(of, what);
const text = () => readFile(join(output().path, 'deep', 'text.txt'), 'utf8');

describe('OutputPlacer', () => {
  it('copies, leaves what is up to date, and replaces what is not', async () => {
    const [one, two] = [await artifact('one'), await artifact('two')];
    expect(await place(output(), one)).toBe(true);
    expect(await text()).toBe('one');
    expect(await place(output(), one)).toBe(false);
    expect(await place(output(), two)).toBe(true);
    expect(await text()).toBe('two');
    expect(await readdir(join(folder, 'results'))).toEqual(['data']);
    await writeFile(join(two.path, 'deep', 'text.txt'), 'owt');
    expect(await text()).toBe('two');
  });

  it('links, and turns a link into a copy and back', async () => {
    const one = await artifact('one');
    await place(output('link'), one);
    expect((await lstat(output().path)).isSymbolicLink()).toBe(true);
    expect(await linkedDigests(workspace)).toEqual([one.digest]);
    await place(output('copy'), one);
    expect((await lstat(output().path)).isDirectory()).toBe(true);
    expect(await linkedDigests(workspace)).toEqual([]);
    await place(output('link'), one);
    expect(await text()).toBe('one');
  });

  it('takes an empty folder, and refuses one with files of the user', async () => {
    const one = await artifact('one');
    await mkdir(output().path, { recursive: true });
    await place(output(), one);
    await writeFile(join(output().path, 'notes.txt'), 'mine');
    const two = await artifact('two');
    const refused = {
      code: 'OUTPUT_PLACE_TAKEN',
      message: expect.stringMatching(/^results\/data holds/),
      at: { line: 3 },
    };
    for (const mode of ['copy', 'link'] as const) await expect(place(output(mode), two)).rejects.toMatchObject(refused);
    expect(await text()).toBe('one');
    expect(await readFile(join(output().path, 'notes.txt'), 'utf8')).toBe('mine');
  });

  it('refuses to replace a changed file', async () => {
    await place(output(), await artifact('one'));
    await writeFile(join(output().path, 'deep', 'text.txt'), 'eno');
    await expect(place(output(), await artifact('two'))).rejects.toMatchObject({ code: 'OUTPUT_PLACE_TAKEN' });
  });
});
