import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { callCli } from '../../test/helpers/cli.ts';
import { temporaryFolder } from '../../test/helpers/temporary-folder.ts';

let folder: string;
beforeEach(async () => {
  folder = await temporaryFolder();
});

describe('fr1 new stage', () => {
  it('writes a stage that runs, whose options are listed and completed', async () => {
    const made = await callCli(folder, ['new', 'stage', 'stages/few-shot']);
    expect(made).toMatchObject({ exitCode: 0, stdout: expect.stringContaining('uses: ./stages/few-shot') });
    const pipeline = join('stages', 'few-shot', 'example', 'pipeline.yaml');
    const run = await callCli(folder, ['run', pipeline]);
    expect(run).toMatchObject({ exitCode: 0, stderr: '' });
    expect(run.stdout).toContain('kept 8 of 16 images');

    const listed = await callCli(folder, ['stages', './stages/few-shot']);
    expect(listed.stdout).toContain('perClass: integer >= 1, default 2');
    const { stdout } = await callCli(folder, ['schema', pipeline]);
    const schema = JSON.parse(stdout) as { $defs: Record<string, unknown> };
    expect(schema.$defs['options-../']).toMatchObject({ properties: { perClass: { default: 2 } } });
  });

  it('leaves nothing of the template in the name of the package', async () => {
    await callCli(folder, ['new', 'stage', 'crop']);
    const manifest = JSON.parse(await readFile(join(folder, 'crop', 'package.json'), 'utf8')) as object;
    expect(manifest).toMatchObject({
      name: 'fr1-stage-crop',
      peerDependencies: { fr1: expect.stringMatching(/^\^\d+\.\d+\.\d+/) },
    });
  });

  it('refuses a name that is none, and a folder that holds something', async () => {
    expect(await callCli(folder, ['new', 'stage', 'Few Shot'])).toMatchObject({ exitCode: 2 });
    await writeFile(join(folder, 'file'), '');
    const { exitCode, stderr } = await callCli(folder, ['new', 'stage', '../' + folder.split('/').at(-1)]);
    expect(exitCode).toBe(2);
    expect(stderr).toContain('cannot be the name');
  });
});

describe('fr1 stages', () => {
  it('keeps lines within 80 columns where words allow', async () => {
    for (const args of [['stages'], ['stages', 'tapo'], ['stages', 'eval']]) {
      const { stdout } = await callCli(folder, args);
      expect(stdout.split('\n').filter((line) => line.length > 80 && line.trim().includes(' '))).toEqual([]);
    }
  });
});
