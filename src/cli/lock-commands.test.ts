/** `fr1 run --lock`, `--locked` and `fr1 repro`, as a CI job uses them. */
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { callCli } from '../../test/helpers/cli.ts';
import { temporaryFolder } from '../../test/helpers/temporary-folder.ts';

const pipeline = (text = 'one', metric = 0.5) => `
name: demo
seed: 3
stages:
  first: { uses: fake-write, with: { text: ${text}, metric: ${metric} } }
  second: { uses: fake-count, with: { steps: 4, data: "\${{ stages.first.outputs.data }}" } }
  gate:
    uses: fake-write
    with: { data: ./input, metric: ${metric} }
    needs: [second]
    expect: { score: { atLeast: 0.45 } }
`;

let folder: string;
const write = (text: string) => writeFile(join(folder, 'p.yaml'), text);
const call = (...argv: string[]) => callCli(folder, argv);

beforeEach(async () => {
  folder = await temporaryFolder();
  await mkdir(join(folder, 'input'));
  await writeFile(join(folder, 'input', 'dataset.json'), '{}');
  await writeFile(join(folder, 'input', 'rows.jsonl'), '');
  await writeFile(join(folder, 'input', 'text.txt'), 'x');
  await write(pipeline());
});

describe('fr1 run --lock', () => {
  it('writes what the run resolved to and made; the same run passes --locked', async () => {
    const first = await call('run', 'p.yaml', '--lock');
    expect(first).toMatchObject({ exitCode: 0, stderr: '' });
    expect(first.stdout).toMatch(/^lock: p\.fr1\.lock$/m);
    const lock = JSON.parse(await readFile(join(folder, 'p.fr1.lock'), 'utf8'));
    expect(lock).toMatchObject({
      version: 1,
      file: 'p.yaml',
      seed: 3,
      packages: { 'onnxruntime-node': '1.30.0', sharp: expect.any(String) },
      stages: { first: { outputs: { data: expect.stringMatching(/^sha256:/) }, metrics: { score: { value: 0.5 } } } },
    });
    expect(Object.keys(lock.stages)).toEqual(['first', 'second', 'gate']);
    expect((await call('run', 'p.yaml', '--locked')).exitCode).toBe(0);
    expect((await call('run', 'p.yaml', '--locked', '-w', 'elsewhere')).exitCode).toBe(0);
  });

  it('writes none when the run fails', async () => {
    await write(pipeline('one', 0.1));
    expect((await call('run', 'p.yaml', '--lock')).exitCode).toBe(1);
    expect(await readdir(folder)).not.toContain('p.fr1.lock');
  });
});

describe('fr1 run --locked', () => {
  it.each<[string, () => Promise<unknown>, RegExp]>([
    ['an option', () => write(pipeline('uno')), /stages\.first\.options\.text: one -> uno/],
    ['the seed', () => write(pipeline().replace('seed: 3', 'seed: 4')), /seed: 3 -> 4; \d+ more differ/],
    [
      'a local input',
      () => writeFile(join(folder, 'input', 'text.txt'), 'y'),
      /stages\.gate\.inputs\.data: sha256:\w+ -> /,
    ],
    [
      'a further stage',
      () => write(`${pipeline()}  more: { uses: fake-write }\n`),
      /stages\.more: absent -> fake-write/,
    ],
    ['a stage less', () => write(pipeline().split('  gate:')[0]!), /stages\.gate: fake-write -> absent/],
  ])('refuses %s that differs before anything runs, and names it', async (_, change, message) => {
    await call('run', 'p.yaml', '--lock');
    await change();
    const { exitCode, stderr, stdout } = await call('run', 'p.yaml', '--locked', '-w', 'elsewhere');
    expect(exitCode).toBe(1);
    expect(stderr).toContain('error[LOCK_DIFFERS]');
    expect(stderr).toMatch(message);
    expect(stdout).toBe('');
  });

  it('fails a stage whose input came out differently', async () => {
    await call('run', 'p.yaml', '--lock');
    const path = join(folder, 'p.fr1.lock');
    const lock = JSON.parse(await readFile(path, 'utf8'));
    const other = `sha256:${'a'.repeat(64)}`;
    lock.stages.first.outputs.data = other;
    lock.stages.second.fields.inputs['/data'] = other;
    lock.stages.second.fingerprint = other;
    await writeFile(path, JSON.stringify(lock));
    const { exitCode, stderr } = await call('run', 'p.yaml', '--locked');
    expect(exitCode).toBe(1);
    expect(stderr).toMatch(/stages\.second\.inputs\.data: sha256:aaaaaaaaaaaa -> sha256:/);
  });

  it('ends with 2 without a lock, and with an unreadable one', async () => {
    expect(await call('run', 'p.yaml', '--locked')).toMatchObject({
      exitCode: 2,
      stderr: expect.stringMatching(/LOCK_MISSING/),
    });
    await writeFile(join(folder, 'p.fr1.lock'), '{');
    expect(await call('run', 'p.yaml', '--locked')).toMatchObject({
      exitCode: 2,
      stderr: expect.stringMatching(/LOCK_INVALID/),
    });
  });
});

describe('a gate that is not met', () => {
  it('ends with 1 and prints what was expected, found, its interval, and the first entry of the lock that differs', async () => {
    await call('run', 'p.yaml', '--lock');
    await write(pipeline('one', 0.4));
    const { exitCode, stderr } = await call('run', 'p.yaml');
    expect(exitCode).toBe(1);
    expect(stderr).toContain('expected score at least 0.45, got 0.4000 [0.3000, 0.5000]');
    expect(stderr).toMatch(
      /first difference to p\.fr1\.lock \(run [-\d]+\):\n {2}stages\.first\.options\.metric: 0\.5 -> 0\.4/,
    );
  });
});

describe('fr1 repro', () => {
  it('repeats a run by its id, and a lock, and says that all is the same', async () => {
    await call('run', 'p.yaml', '--lock', '--set', 'stages.first.with.text=uno');
    for (const what of ['last', 'p.fr1.lock']) {
      const { exitCode, stdout, stderr } = await call('repro', what);
      expect([exitCode, stderr]).toEqual([0, '']);
      expect(stdout).toMatch(/^reproduced run [-\d]+: 3 artifacts and 3 metrics, all the same$/m);
      expect(stdout).toMatch(/: 3 ran$/m);
    }
  });

  it('runs nothing when the pipeline is no longer the same', async () => {
    await call('run', 'p.yaml', '--lock');
    await write(pipeline('uno'));
    const { exitCode, stderr, stdout } = await call('repro', 'p.fr1.lock');
    expect([exitCode, stdout]).toEqual([1, '']);
    expect(stderr).toMatch(/LOCK_DIFFERS(.|\n)*stages\.first\.options\.text: one -> uno/);
  });

  it('names what came out differently, and keeps it', async () => {
    await call('run', 'p.yaml', '--lock');
    const path = join(folder, 'p.fr1.lock');
    const lock = JSON.parse(await readFile(path, 'utf8'));
    lock.stages.gate.outputs.data = `sha256:${'b'.repeat(64)}`;
    lock.stages.gate.metrics.score.value = 0.51;
    await writeFile(path, JSON.stringify(lock));
    const { exitCode, stdout, stderr } = await call('repro', 'p.fr1.lock', '--into', 'again');
    expect(exitCode).toBe(1);
    expect(stdout).toMatch(/^differs: stages\.gate\.outputs\.data: sha256:bbbbbbbbbbbb -> sha256:\w{12}$/m);
    expect(stdout).toMatch(
      /^differs: stages\.gate\.metrics\.score: expected 0\.5100 .*, got 0\.5000 .*, inside the interval$/m,
    );
    expect(stderr).toContain('error[REPRODUCTION_DIFFERS]');

    const lenient = await call('repro', 'p.fr1.lock', '--into', 'again', '--metrics-only');
    expect(lenient.exitCode).toBe(0);
    expect(lenient.stdout).toMatch(/every metric inside its interval$/m);
  });

  it('ends with 2 when there is no such lock or run', async () => {
    expect((await call('repro', 'nowhere.fr1.lock')).exitCode).toBe(2);
    await call('run', 'p.yaml');
    expect(await call('repro', '1999')).toMatchObject({ exitCode: 2, stderr: expect.stringMatching(/RUN_UNKNOWN/) });
  });
});
