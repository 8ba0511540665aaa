import { existsSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { ARTIFACT_TYPES } from '../../src/artifacts/types.ts';
import { callCli } from '../../test/helpers/cli.ts';
import { temporaryFolder } from '../../test/helpers/temporary-folder.ts';
import { shellStage } from './stage.ts';

let folder: string;
beforeEach(async () => {
  folder = await temporaryFolder();
});

/** A pipeline of one stage `it` with these options, run by the CLI. */
async function run(options: object, ...args: string[]) {
  await writeFile(path.join(folder, 'p.yaml'), JSON.stringify({ stages: { it: { uses: 'shell', with: options } } }));
  return callCli(folder, ['run', 'p.yaml', ...args]);
}

const node = (code: string, ...args: string[]) => [process.execPath, '-e', code, ...args];

describe('shell', () => {
  it('hands paths over in arguments and in the environment, takes outputs, metrics, progress and curves', async () => {
    await mkdir(path.join(folder, 'in'));
    await writeFile(path.join(folder, 'in', 'text.txt'), 'hello');
    const code = `
      const fs = require('node:fs');
      const [, input, output] = process.argv;
      const text = fs.readFileSync(input + '/text.txt', 'utf8');
      fs.writeFileSync(output + '/out.txt', text + ' ' + (input === process.env.FR1_INPUT_DATA) + ' {braces}');
      fs.writeFileSync(process.env.FR1_METRICS, JSON.stringify({ score: 0.5, loss: { value: 1, low: 0.5, high: 2 } }));
      console.log('working with seed ' + process.env.FR1_SEED);
      console.log('fr1: ' + JSON.stringify({ progress: { done: 1, total: 1, unit: 'files' } }));
      console.log('fr1: ' + JSON.stringify({ metric: { step: 1, values: { loss: 2 } } }));
      console.log('fr1: nonsense');
    `;
    const { stdout, exitCode } = await run(
      {
        command: node(code, '{input.data}', '{output.result}'),
        inputs: { data: 'in' },
        outputs: { result: 'files' },
        metrics: ['score'],
        seed: 7,
      },
      '--json',
    );
    expect(exitCode).toBe(0);
    const events = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    const of = (type: string) => events.filter((event) => event['type'] === type);
    expect(of('stage-log').map(({ message }) => message)).toEqual(['working with seed 7']);
    expect(of('stage-progress')).toMatchObject([{ done: 1, total: 1, unit: 'files' }]);
    expect(of('stage-metric')).toMatchObject([{ step: 1, values: { loss: 2 } }]);
    expect(of('stage-warn')).toMatchObject([{ message: expect.stringContaining('fr1: nonsense') }]);
    const [finished] = of('stage-finished') as unknown as { metrics: object; outputs: { result: { path: string } } }[];
    expect(finished?.metrics).toEqual({ score: { value: 0.5 }, loss: { value: 1, low: 0.5, high: 2 } });
    const made = await readFile(path.join(finished!.outputs.result.path, 'out.txt'), 'utf8');
    expect(made).toBe('hello true {braces}');
  });

  it('runs again when a file that it reads has changed, and not otherwise', async () => {
    const script = path.join(folder, 'work.js');
    const options = { command: [process.execPath, 'work.js'], files: ['work.js'] };
    await writeFile(script, 'console.log(1)');
    expect((await run(options)).stdout).toContain('1 ran');
    expect((await run(options)).stdout).toContain('everything cached');
    await writeFile(script, 'console.log(2)');
    expect((await run(options)).stdout).toContain('inputs.files.0 changed');
  });

  it('fails with the exit code and the last lines of standard error', async () => {
    const { exitCode, stderr } = await run({ command: node('console.error("no such class: wren"); process.exit(3)') });
    expect(exitCode).toBe(1);
    expect(stderr).toContain('the command ended with exit code 3');
    expect(stderr).toContain('no such class: wren');
  });

  it('says that a program is not there', async () => {
    const { exitCode, stderr } = await run({ command: ['no-such-program-here'] });
    expect(exitCode).toBe(1);
    expect(stderr).toContain('cannot start no-such-program-here: there is no such program');
    expect(stderr).toContain('is the program installed');
  });

  it('gives no argument to a shell', async () => {
    const { stdout } = await run({ command: node('console.log(process.argv[1])', '$(touch hacked); `touch hacked`') });
    expect(stdout).toContain('$(touch hacked); `touch hacked`');
    expect(existsSync(path.join(folder, 'hacked'))).toBe(false);
  });

  it.skipIf(process.platform === 'win32')(
    'runs a script in the shell when asked, and stops at its first error',
    async () => {
      const script = 'printf "%s" one | tr a-z A-Z > "$FR1_OUTPUT_DATA/x"; cat "$FR1_OUTPUT_DATA/x"; echo';
      expect((await run({ script, outputs: { data: 'files' } })).stdout).toContain('[it]  ONE');
      expect((await run({ script: 'false; echo went "on"' })).stdout).not.toContain('went on');
    },
  );

  it('hides GPUs from a command without a device', async () => {
    const command = node('console.log("[" + process.env.CUDA_VISIBLE_DEVICES + "]")');
    expect((await run({ command })).stdout).toContain('[it]  []');
  });

  it.skipIf(process.platform === 'win32')('ends the whole process tree on an interrupt', async () => {
    const beat = path.join(folder, 'beat');
    // A shell that starts a shell in the background: only the group reaches it.
    const script = `sh -c 'while true; do date +%s%N > ${beat}; sleep 0.05; done' & wait`;
    let interrupt = () => {};
    const onInterrupt = (listener: () => void) => {
      interrupt = listener;
      return () => undefined;
    };
    await writeFile(
      path.join(folder, 'p.yaml'),
      JSON.stringify({ stages: { it: { uses: 'shell', with: { script } } } }),
    );
    const running = callCli(folder, ['run', 'p.yaml'], { onInterrupt });
    await vi.waitFor(() => expect(existsSync(beat)).toBe(true), { timeout: 15_000 });
    interrupt();
    expect((await running).exitCode).toBe(130);
    await sleep(300);
    const last = await readFile(beat, 'utf8');
    await sleep(300);
    expect(await readFile(beat, 'utf8')).toBe(last);
  });

  it.each([
    ['neither command nor script', {}, 'it has neither'],
    ['both', { command: ['a'], script: 'b' }, 'it has `command` and `script`'],
    ['an unknown mark', { command: ['a', '{input.dta}'], inputs: { data: '.' } }, 'did you mean "input.data"?'],
    ['a metric that is not written', { command: node(''), metrics: ['score'] }, 'did not write the metric score'],
    ['an unknown type', { command: ['a'], outputs: { x: 'imagedata' } }, 'did you mean "image-data"?'],
  ])('refuses %s', async (_what, options, message) => {
    const { stderr, exitCode } = await run(options);
    expect(stderr).toContain(message);
    expect(exitCode).toBeGreaterThan(0);
  });

  it('knows every type of artifact', () => {
    const { outputs, inputs } = shellStage.schema.properties as Record<string, { additionalProperties: object }>;
    expect(outputs?.additionalProperties).toMatchObject({ enum: Object.keys(ARTIFACT_TYPES) });
    expect(inputs?.additionalProperties).toMatchObject({ artifact: Object.keys(ARTIFACT_TYPES) });
  });
});
