import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { callCli } from '../../test/helpers/cli.ts';
import { temporaryFolder } from '../../test/helpers/temporary-folder.ts';

const PIPELINE = `
name: demo
stages:
  first: { uses: fake-write, with: { text: one } }
  second: { uses: fake-count, with: { steps: 2, data: "\${{ stages.first.outputs.data }}" } }
`;

let folder: string;
beforeEach(async () => {
  folder = await temporaryFolder();
  await writeFile(join(folder, 'p.yaml'), PIPELINE);
});

const run = (...sets: string[]) => callCli(folder, ['run', 'p.yaml', ...sets.flatMap((set) => ['--set', set])]);

async function ids(): Promise<string[]> {
  const { stdout } = await callCli(folder, ['runs', '--json']);
  return (JSON.parse(stdout) as { runs: { id: string }[] }).runs.map(({ id }) => id);
}

describe('fr1 runs', () => {
  it('lists runs, the latest first', async () => {
    await run();
    await run('stages.second.with.steps=3');
    const { stdout } = await callCli(folder, ['runs']);
    const rows = stdout.split('\n').filter((line) => /^\d{8}-/.test(line));
    expect(rows[0]).toMatch(/demo +done .*1 cached, 1 ran/);
    expect(rows[1]).toMatch(/demo +done .*2 ran/);
  });

  it('says that there is none', async () => {
    expect((await callCli(folder, ['runs'])).stdout).toContain('no run in');
  });
});

describe('fr1 logs', () => {
  it('prints what a run or a stage said, with times', async () => {
    await run();
    const { stdout } = await callCli(folder, ['logs', 'first']);
    expect(stdout).toMatch(/^\d\d:\d\d:\d\d {2}\[first\] +wrote one$/m);
    expect(stdout).not.toContain('[second]');
    expect((await callCli(folder, ['logs', '-f'])).stdout).toContain('[second]');
  });

  it('does not wait for a run that was killed', async () => {
    await run();
    const [id] = await ids();
    const file = join(folder, '.fr1', 'runs', id!, 'run.json');
    await writeFile(file, (await readFile(file, 'utf8')).replace('"status": "done"', '"status": "running"'));
    expect((await callCli(folder, ['runs'])).stdout).toContain('running');
    expect((await callCli(folder, ['logs', '-f'])).stdout).toContain('[second]');
  });

  it('knows the nearest stage', async () => {
    await run();
    const { exitCode, stderr } = await callCli(folder, ['logs', 'fist']);
    expect(exitCode).toBe(2);
    expect(stderr).toContain('did you mean "first"?');
  });
});

describe('fr1 diff', () => {
  it('tells options, inputs, outputs and metrics with intervals', async () => {
    await run();
    await run('stages.first.with.text=two', 'stages.first.with.metric=0.9', 'stages.second.with.rate=2');
    const [after, before] = await ids();
    const { stdout } = await callCli(folder, ['diff', before!, after!]);
    expect(stdout).toContain('options.text: one -> two');
    expect(stdout).toMatch(/inputs\.data: sha256:\w{12} -> sha256:\w{12}/);
    expect(stdout).toContain('options.rate: 1 -> 2');
    expect(stdout).toContain('other bytes: model');
    expect(stdout).toMatch(/first +score +0.5000 \[0.4000, 0.6000\] +0.9000 \[0.8000, 1\] +\+0.4000 +apart/);
  });

  it('compares the last run with the one before it of the same pipeline, and one that is named with the last', async () => {
    await run();
    await writeFile(join(folder, 'other.yaml'), PIPELINE.replace('name: demo', 'name: other'));
    await callCli(folder, ['run', 'other.yaml']);
    const alone = await callCli(folder, ['diff', 'last']);
    expect(alone.exitCode).toBe(2);
    expect(alone.stderr).toMatch(/no run of "other" before \d{8}-\S+ to compare it with[\s\S]*fr1 diff BEFORE AFTER/);
    await run('stages.first.with.text=two');
    const [last, , first] = await ids();
    for (const args of [[], ['last'], [first!], [last!]]) {
      const { stdout } = await callCli(folder, ['diff', ...args]);
      expect(stdout, args.join()).toContain(`${first} (done) -> ${last} (done)`);
      expect(stdout).toContain('options.text: one -> two');
    }
  });

  it('says that nothing differs', async () => {
    await run();
    await run();
    const [after, before] = await ids();
    expect((await callCli(folder, ['diff', before!, after!])).stdout).toContain('no difference');
  });
});
