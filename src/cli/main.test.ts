import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { callCli } from '../../test/helpers/cli.ts';
import { temporaryFolder } from '../../test/helpers/temporary-folder.ts';

const PIPELINE = `
name: demo
stages:
  first: { uses: fake-write, with: { text: one } }
  second: { uses: fake-count, with: { steps: 4, data: "\${{ stages.first.outputs.data }}" } }
`;

let folder: string;

beforeEach(async () => {
  folder = await temporaryFolder();
  await writeFile(join(folder, 'p.yaml'), PIPELINE);
});

describe('fr1 run', () => {
  it('runs, then says that everything is cached', async () => {
    const first = await callCli(folder, ['run', 'p.yaml']);
    expect(first).toMatchObject({ exitCode: 0, stderr: '' });
    expect(first.stdout).toContain('[second]  done in');
    expect(first.stdout).toMatch(/^done in .*: 2 ran$/m);
    expect(first.stdout).toContain('Result of first');
    expect(first.stdout).toMatch(/second\.model {2}.*store/);

    const second = await callCli(folder, ['run', 'p.yaml']);
    expect(second.exitCode).toBe(0);
    expect(second.stdout).toContain('everything cached');
    expect(second.stdout).toContain('Result of first');
  });

  it('says which option changed', async () => {
    await callCli(folder, ['run', 'p.yaml']);
    const { stdout } = await callCli(folder, ['run', 'p.yaml', '--set', 'stages.second.with.rate=0.5']);
    expect(stdout).toContain('[first]   cached');
    expect(stdout).toContain('[second]  will run: options.rate changed 1 -> 0.5');
  });

  it('prints events as JSON lines and nothing else with --json', async () => {
    const { stdout, stderr } = await callCli(folder, ['run', 'p.yaml', '--json']);
    const events = stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as { type: string; time: string; record?: string });
    expect(events[0]).toMatchObject({ type: 'run-started', version: 1, pipeline: 'demo' });
    expect(events.at(-1)).toMatchObject({ type: 'run-finished', status: 'done', ran: 2 });
    expect(stderr).toBe('');
    const record = JSON.parse(await readFile(events.at(-1)!.record!, 'utf8'));
    expect(record).toMatchObject({ version: 1, status: 'done', stages: [{ status: 'ran' }, { status: 'ran' }] });
  });

  it('keeps results in the named workspace', async () => {
    await callCli(folder, ['run', 'p.yaml', '--workspace', 'elsewhere']);
    const { stdout } = await callCli(folder, ['show', '-w', 'elsewhere', '--json']);
    expect(JSON.parse(stdout)).toMatchObject({ pipeline: 'demo', workspace: join(folder, 'elsewhere') });
  });

  it('runs nothing with --dry-run, and says what it would do', async () => {
    const before = await callCli(folder, ['run', 'p.yaml', '--dry-run']);
    expect(before.stdout).toMatch(/1\. first +fake-write +runs: it has not run before/);
    expect(before.stdout).toMatch(/2\. second +fake-count +depends on what first will make/);
    await expect(readFile(join(folder, '.fr1', 'lock'))).rejects.toThrow();
    await callCli(folder, ['run', 'p.yaml']);
    const after = await callCli(folder, ['plan', 'p.yaml', '--json']);
    expect(JSON.parse(after.stdout).stages).toMatchObject([{ will: 'reuse' }, { will: 'reuse' }]);
  });

  it('forces named stages, and all without a name wherever the flag stands', async () => {
    await callCli(folder, ['run', 'p.yaml']);
    expect((await callCli(folder, ['run', 'p.yaml', '--force', 'second'])).stdout).toMatch(/: 1 ran, 1 cached/);
    expect((await callCli(folder, ['run', '--force', 'p.yaml'])).stdout).toMatch(/: 2 ran/);
  });

  it('ends with 1 and the stage, its error and cause when a stage fails', async () => {
    await writeFile(join(folder, 'p.yaml'), 'stages: { bad: { uses: fake-fail } }');
    const { exitCode, stdout, stderr } = await callCli(folder, ['run', 'p.yaml']);
    expect(exitCode).toBe(1);
    expect(stderr).toContain('stage "bad" failed:\nerror[STAGE_FAILED]\n  the disk is on fire\n  because: too hot');
    expect(stderr).not.toMatch(/^ +at /m);
    expect(stdout).toMatch(/^failed in/m);
  });

  it('ends with 1 when an expectation is not met', async () => {
    await writeFile(join(folder, 'p.yaml'), 'stages: { a: { uses: fake-write, expect: { score: { atLeast: 0.9 } } } }');
    const { exitCode, stderr } = await callCli(folder, ['run', 'p.yaml']);
    expect(exitCode).toBe(1);
    expect(stderr).toContain('expected score at least 0.9, got 0.5000 [0.4000, 0.6000]');
  });

  it('ends with 130 and says how to go on after an interrupt', async () => {
    await writeFile(join(folder, 'p.yaml'), 'stages: { c: { uses: fake-count, with: { steps: 500, stepMs: 20 } } }');
    let interrupt = () => {};
    const running = callCli(folder, ['run', 'p.yaml'], {
      onInterrupt: (listener) => {
        interrupt = listener;
        return () => undefined;
      },
    });
    setTimeout(() => interrupt(), 600);
    const { exitCode, stdout } = await running;
    expect(exitCode).toBe(130);
    expect(stdout).toContain('run the same command again: it continues from the last checkpoint');
  });

  it('ends at once at the second interrupt', async () => {
    await writeFile(join(folder, 'p.yaml'), 'stages: { c: { uses: fake-deaf } }');
    let code: number | undefined;
    const { exitCode } = await callCli(folder, ['run', 'p.yaml'], {
      onInterrupt: (listener) => {
        setTimeout(listener, 300);
        setTimeout(listener, 400);
        return () => undefined;
      },
      exitNow: (given) => {
        code = given;
      },
    });
    expect([code, exitCode]).toEqual([130, 130]);
  });

  it('does not start while another run holds the workspace', async () => {
    await callCli(folder, ['run', 'p.yaml']);
    const owner = { pid: process.ppid, host: (await import('node:os')).hostname(), startedAt: 'now' };
    await writeFile(join(folder, '.fr1', 'lock'), JSON.stringify(owner));
    const { exitCode, stderr } = await callCli(folder, ['run', 'p.yaml']);
    expect(exitCode).toBe(2);
    expect(stderr).toContain(`process ${process.ppid}`);
    expect(stderr).toContain('--workspace DIR');
  });
});

describe('fr1 check', () => {
  it('accepts a valid pipeline', async () => {
    const { exitCode, stdout, stderr } = await callCli(folder, ['check', 'p.yaml']);
    expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
    expect(stdout).toMatch(/^p\.yaml: pipeline "demo" is valid, 2 stages\ndisk: .* free, about .* needed\n$/);
  });

  it('places an error in the file and ends with 2', async () => {
    await writeFile(join(folder, 'p.yaml'), 'stages:\n  a: { uses: fake-writ }\n');
    const { exitCode, stderr } = await callCli(folder, ['check', 'p.yaml']);
    expect(exitCode).toBe(2);
    expect(stderr).toContain('p.yaml:2:14  error[STAGE_KIND_UNKNOWN]');
    expect(stderr).toContain('did you mean "fake-write"?');
  });
});

describe('fr1 stages', () => {
  it('lists kinds with their summaries', async () => {
    const { stdout, exitCode } = await callCli(folder, ['stages']);
    expect(exitCode).toBe(0);
    expect(stdout).toMatch(/^fake-write +Writes a text\.$/m);
  });

  it('shows the options, inputs and outputs of one', async () => {
    const { stdout } = await callCli(folder, ['stages', 'fake-count']);
    expect(stdout).toMatch(/^ {2}data: image-data\n {6}goes into the result$/m);
    expect(stdout).toMatch(/^ {2}steps: integer >= 1, default 5\n {6}how far to count$/m);
    expect(stdout).toMatch(/^ {2}model: checkpoint\n {6}model\.json$/m);
    expect(stdout).toMatch(/^Metrics\n {2}steps$/m);
  });

  it('knows the nearest kind', async () => {
    const { exitCode, stderr } = await callCli(folder, ['stages', 'fake-cuont']);
    expect(exitCode).toBe(2);
    expect(stderr).toContain('did you mean "fake-count"?');
  });
});

describe('fr1 show', () => {
  it('prints stages, metrics and places of the last run', async () => {
    await callCli(folder, ['run', 'p.yaml']);
    const { stdout, exitCode } = await callCli(folder, ['show']);
    expect(exitCode).toBe(0);
    expect(stdout).toMatch(/^run .* of demo \(p\.yaml\): done in/m);
    expect(stdout).toMatch(/^second +steps +4$/m);
    expect(stdout).toMatch(/^second\.model +checkpoint +\d+ B +\.fr1.store/m);
  });

  it('finds the workspace of the pipelines folder', async () => {
    await mkdir(join(folder, 'pipelines'));
    await writeFile(join(folder, 'pipelines', 'q.yaml'), PIPELINE);
    const run = await callCli(folder, ['run', 'pipelines/q.yaml']);
    expect(run.stdout).toMatch(/to see this again: fr1 show [-\d]+$/m);
    expect((await callCli(folder, ['show'])).exitCode).toBe(0);
  });

  it('ends with 2 when there is no such run', async () => {
    const { exitCode, stderr } = await callCli(folder, ['show']);
    expect(exitCode).toBe(2);
    expect(stderr).toContain('error[RUN_UNKNOWN]');
  });
});

describe('wrong arguments', () => {
  it.each([
    [['rnu'], "unknown command 'rnu'", 'did you mean run?'],
    [['run'], "missing required argument 'file'", 'fr1 run --help'],
    [['run', 'p.yaml', '--frce'], "unknown option '--frce'", 'did you mean --force?'],
    [['run', 'p.yaml', '--jobs', '0'], 'a whole number from 1 on', 'fr1 run --help'],
    [['run', 'p.yaml', '--device', 'gpu'], 'a device is', 'fr1 run --help'],
    [['run', 'p.yaml', '--device', 'cuda:9'], 'the device "cuda:9" cannot be used', 'fr1 doctor'],
    [['run', 'p.yaml', '--only', 'frist'], 'there is no stage "frist"', 'did you mean "first"?'],
    [['run', 'p.yaml', 'q.yaml'], 'too many arguments', 'fr1 run --help'],
    [['run', 'nowhere.yaml'], 'there is no file nowhere.yaml', 'current folder'],
  ])('%j end with 2, a message, a hint and no stack', async (argv, message, hint) => {
    const { exitCode, stderr, stdout } = await callCli(folder, argv);
    expect(exitCode).toBe(2);
    expect(stdout).toBe('');
    expect(stderr).toContain(message);
    expect(stderr).toContain(`hint: `);
    expect(stderr).toContain(hint);
    expect(stderr).not.toMatch(/^ +at /m);
  });

  it('show the first twenty of very many errors', async () => {
    const lines = Array.from({ length: 25 }, (_, i) => `  s${i}: { uses: nothing }`);
    await writeFile(join(folder, 'p.yaml'), `stages:\n${lines.join('\n')}\n`);
    const { exitCode, stderr } = await callCli(folder, ['check', 'p.yaml']);
    expect(exitCode).toBe(2);
    expect(stderr.match(/STAGE_KIND_UNKNOWN/g)).toHaveLength(20);
    expect(stderr).toMatch(/and 5 more\n$/);
  });

  it('show a stack with FR1_DEBUG=1', async () => {
    const { stderr } = await callCli(folder, ['run', 'nowhere.yaml'], { env: { FR1_DEBUG: '1' } });
    expect(stderr).toMatch(/^ +at /m);
  });
});

describe('help and version', () => {
  it('go to standard output with 0', async () => {
    expect(await callCli(folder, ['--version'])).toMatchObject({ exitCode: 0, stdout: '0.1.0\n', stderr: '' });
    const help = await callCli(folder, ['run', '--help']);
    expect(help).toMatchObject({ exitCode: 0, stderr: '' });
    expect(help.stdout).toContain('--dry-run');
  });

  it('go to standard error with 2 when nothing is asked', async () => {
    const { exitCode, stdout, stderr } = await callCli(folder, []);
    expect([exitCode, stdout]).toEqual([2, '']);
    expect(stderr).toContain('Usage: fr1');
  });
});

describe('fr1 verify', () => {
  it('ends with 0 when all is intact, and with 1 and names when not', async () => {
    await callCli(folder, ['run', 'p.yaml']);
    const before = await callCli(folder, ['verify']);
    expect(before).toMatchObject({ exitCode: 0, stderr: '' });
    expect(before.stdout).toMatch(/^2 artifacts intact, \d+ B$/m);

    const { stages } = JSON.parse((await callCli(folder, ['show', '--json'])).stdout);
    await writeFile(join(stages[0].outputs.data.path, 'text.txt'), 'onf');
    const after = await callCli(folder, ['verify']);
    expect(after.exitCode).toBe(1);
    expect(after.stdout).toMatch(/^damaged: sha256:\w{12} \(first\.data\): the content of text\.txt has changed$/m);
    expect(after.stderr).toContain('error[STORE_DAMAGED]');

    const repaired = await callCli(folder, ['run', 'p.yaml']);
    expect(repaired.stdout).toMatch(/^done in .*: 1 ran, 1 cached$/m);
    expect((await callCli(folder, ['verify', '--json'])).exitCode).toBe(0);
  });

  it('ends with 2 where there is no workspace', async () => {
    const { exitCode, stderr } = await callCli(folder, ['verify']);
    expect([exitCode, stderr]).toEqual([2, expect.stringContaining('error[WORKSPACE_MISSING]')]);
  });
});

describe('fr1 gc', () => {
  it('says what it would free, then frees it', async () => {
    await callCli(folder, ['run', 'p.yaml', '--set', 'stages.first.with.text=uno']);
    await callCli(folder, ['run', 'p.yaml']);
    const dry = await callCli(folder, ['gc', '--keep', '1', '--dry-run']);
    expect(dry.stdout).toMatch(/^would remove artifact \w{12} \(first\.data\), 3 B$/m);
    expect(dry.stdout).toMatch(/^would free .*; kept 2 artifacts \(\d+ B\) of 1 run$/m);
    expect((await callCli(folder, ['gc', '--keep', '1'])).stdout).toMatch(/^freed .*; kept 2 artifacts/m);
    expect((await callCli(folder, ['gc', '--keep', '1'])).stdout).toMatch(/^nothing to remove; kept 2 artifacts/m);
    expect((await callCli(folder, ['run', 'p.yaml'])).stdout).toContain('everything cached');
  });

  it('keeps what a pinned run made', async () => {
    await callCli(folder, ['run', 'p.yaml']);
    expect((await callCli(folder, ['pin', 'last'])).stdout).toMatch(/^run [-\d]+ is pinned/);
    expect((await callCli(folder, ['gc', '--keep', '0'])).stdout).toMatch(/^nothing to remove/);
    await callCli(folder, ['pin', 'last', '--off']);
    expect((await callCli(folder, ['gc', '--keep', '0'])).stdout).toMatch(/kept 0 artifacts \(0 B\) of 0 runs$/m);
  });
});
