import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { callCli } from '../../test/helpers/cli.ts';
import { temporaryFolder } from '../../test/helpers/temporary-folder.ts';

const PIPELINE = `
name: demo
vars: { long: false }
stages:
  first: { uses: fake-write, with: { text: one } }
  count:
    uses: fake-count
    matrix: { steps: [2, 3] }
    with: { steps: "\${{ matrix.steps }}", data: "\${{ stages.first.outputs.data }}" }
  more: { uses: fake-count, if: vars.long, with: { steps: 9, data: "\${{ stages.first.outputs.data }}" } }
  after: { uses: fake-write, needs: [count], with: { text: two } }
`;

let folder: string;

beforeEach(async () => {
  folder = await temporaryFolder();
  await writeFile(join(folder, 'p.yaml'), PIPELINE);
});

describe('fr1 plan, why and graph', () => {
  it('tell before a run what will run, be skipped and in which order', async () => {
    const { stdout, exitCode } = await callCli(folder, ['plan', 'p.yaml']);
    expect(exitCode).toBe(0);
    expect(stdout).toMatch(/1\. first .*runs: it has not run before/);
    expect(stdout).toMatch(/2\. count\.2 .*depends on what first will make/);
    expect(stdout).toMatch(/4\. more .*skipped: its condition is false/);
    expect(stdout).toContain('time: unknown, as none of these ran before');
    const until = await callCli(folder, ['run', 'p.yaml', '--dry-run', '--until', 'first']);
    expect(until.stdout).toContain('left out: count.2, count.3, more, after');
  });

  it('tell after a run which field of one cell changed, and what it took', async () => {
    await callCli(folder, ['run', 'p.yaml', '--only', 'first,count']);
    const change = ['--set', 'stages.count.matrix.steps=[2, 3, 4]', '--set', 'stages.count.with.rate=0.5'];
    const cached = await callCli(folder, ['why', 'p.yaml', 'count.2']);
    expect(cached.stdout).toMatch(/^count\.2: is cached: nothing that decides its result has changed since just now/);
    const changed = await callCli(folder, ['why', 'p.yaml', 'count', ...change]);
    expect(changed.stdout).toContain('    options.rate: 1 -> 0.5');
    expect(changed.stdout).toContain('count.4: runs: it has not run before');
    expect(changed.stdout).toMatch(/took .* the last time/);
    const plan = await callCli(folder, ['plan', 'p.yaml', ...change]);
    expect(plan.stdout).toMatch(/time: about .* if 2 take as long as the last time, one after another; 2 never ran/);
  });

  it('name the nearest stage for a wrong one', async () => {
    const { stderr, exitCode } = await callCli(folder, ['why', 'p.yaml', 'conut']);
    expect(exitCode).toBe(2);
    expect(stderr).toContain('did you mean "count"?');
  });

  it('draw the graph', async () => {
    const { stdout } = await callCli(folder, ['graph', 'p.yaml', '--from', 'count']);
    expect(stdout.split('\n').slice(0, 3)).toEqual([
      'first            fake-write',
      'count (2 cells)  fake-count  <- first.data',
      'after            fake-write  <- after count',
    ]);
    const wrong = await callCli(folder, ['graph', 'p.yaml', '--format', 'png']);
    expect(wrong).toMatchObject({ exitCode: 2, stdout: '' });
  });
});
