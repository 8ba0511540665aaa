import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { defineStage } from './define-stage.ts';
import { inputProblem } from './plugin-errors.ts';
import { openTestWorkspace, type TestWorkspace } from './testing.ts';

const count = defineStage({
  kind: 'count',
  summary: 'Counts.',
  version: 1,
  schema: {
    type: 'object',
    additionalProperties: false,
    required: ['to'],
    properties: {
      to: { type: 'integer', minimum: 1, description: 'How far.' },
      stepMs: { type: 'integer', minimum: 0, default: 0, description: 'Time of a step.' },
      words: { artifact: ['files'], description: 'words.txt' },
    },
  },
  outputs: { result: { type: 'files', description: 'result.json' } },
  metrics: ['count'],
  cosmeticOptions: ['stepMs'],
  async run({ options, outputs, state, seed, signal, log, metric, warn }) {
    if (options.to === 13) throw inputProblem('13 brings bad luck', { hint: 'take another number' });
    const words = options.words ? await readFile(join(options.words.path, 'words.txt'), 'utf8') : 'one';
    const saved = await readFile(join(state, 'at'), 'utf8').catch(() => '0');
    for (let step = Number(saved) + 1; step <= options.to; step++) {
      if (options.stepMs > 0) await sleep(options.stepMs, undefined, { signal });
      await writeFile(join(state, 'at'), String(step));
      log(`at ${step}`);
      metric(step, { half: step / 2 });
    }
    if (options.to > 100) warn('that is far');
    await writeFile(join(outputs.result, 'result.json'), JSON.stringify({ words, seed }));
    return { metrics: { count: { value: options.to } } };
  },
});

let workspace: TestWorkspace;
beforeEach(async () => {
  workspace = await openTestWorkspace();
});
afterEach(() => workspace.close());

describe('openTestWorkspace()', () => {
  it('runs a stage with its inputs and gives what it made and said', async () => {
    const words = await workspace.write('words', { 'words.txt': 'two' });
    const run = await workspace.run(count, { with: { to: 3, words } });
    expect(run).toMatchObject({ status: 'ran', metrics: { count: { value: 3 } }, log: ['at 1', 'at 2', 'at 3'] });
    expect(run.curve).toEqual([1, 2, 3].map((step) => ({ step, values: { half: step / 2 } })));
    const result: unknown = JSON.parse(await readFile(join(run.outputs.result.path, 'result.json'), 'utf8'));
    expect(result).toMatchObject({ words: 'two' });
  });

  it('reuses what it has made, and not for another seed', async () => {
    const first = await workspace.run(count, { with: { to: 2 } });
    const second = await workspace.run(count, { with: { to: 2, stepMs: 1 } });
    expect(second).toMatchObject({ status: 'cached', log: [] });
    expect(second.outputs.result.digest).toBe(first.outputs.result.digest);
    const other = await workspace.run(count, { with: { to: 2 }, seed: 7 });
    expect(other.status).toBe('ran');
    expect(other.outputs.result.digest).not.toBe(first.outputs.result.digest);
  });

  it('interrupts and resumes', async () => {
    const controller = new AbortController();
    const onLog = (message: string) => message === 'at 2' && controller.abort(new Error('enough'));
    const first = await workspace.run(count, { with: { to: 5, stepMs: 5 }, signal: controller.signal, onLog });
    expect(first.status).toBe('interrupted');
    const second = await workspace.run(count, { with: { to: 5, stepMs: 5 } });
    expect(second).toMatchObject({ status: 'ran', resumed: true, log: ['at 3', 'at 4', 'at 5'] });
  });

  it('tells a failure with its code and hint', async () => {
    const run = await workspace.run(count, { with: { to: 13 } });
    expect(run).toMatchObject({ status: 'failed', outputs: {} });
    expect(run.error).toMatchObject({ code: 'INPUT_REJECTED', message: '13 brings bad luck' });
  });

  it('refuses options as fr1 check does', async () => {
    await expect(workspace.run(count, { with: { to: 0 } })).rejects.toThrow('option "to" must be at least 1');
    // @ts-expect-error: a misspelt option
    await expect(workspace.run(count, { with: { to: 1, step: 1 } })).rejects.toThrow('KEY_UNKNOWN');
  });
});
