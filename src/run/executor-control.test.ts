/** What decides whether, when and how often a stage runs: conditions, failures, retries, time limits, places. */
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { runPlan, type TestRun } from '../../test/helpers/run-plan.ts';
import { temporaryFolder } from '../../test/helpers/temporary-folder.ts';
import { Secrets } from '../config/secrets.ts';
import type { Condition, PipelineOutput, PlannedStage } from '../plan/types.ts';

let folder: string;
beforeEach(async () => {
  folder = await temporaryFolder();
});

const position = { file: 'pipeline.yaml', line: 1, col: 1 };
const statuses = (run: TestRun) => Object.fromEntries(run.record.stages.map(({ name, status }) => [name, status]));
/** Gives the named stages further fields. */
const withFields =
  (fields: Readonly<Record<string, Partial<PlannedStage>>>) =>
  (stage: PlannedStage): PlannedStage => ({ ...stage, ...fields[stage.name] });
const condition = (evaluate: Condition['evaluate'], rest: Partial<Condition> = {}): Condition => ({
  text: 'a test',
  position,
  stages: [],
  toleratesFailure: false,
  evaluate,
  ...rest,
});

describe('a failure', () => {
  const yaml = `
stages:
  bad: { uses: fake-fail }
  slow: { uses: fake-count, with: { steps: 5, stepMs: 40 } }
  later: { uses: fake-write, with: { text: later }, needs: [slow] }
  after: { uses: fake-write, needs: [later] }
`;

  it('lets what is under way end and be kept, and starts nothing more', async () => {
    const run = await runPlan(folder, yaml, { jobs: 2 });
    expect(statuses(run)).toEqual({ bad: 'failed', slow: 'ran', later: 'not-started', after: 'blocked' });
    expect(run.of('stage-stopped', 'later')[0]).toMatchObject({ why: 'not-started', by: 'bad' });
    expect((await runPlan(folder, yaml)).record.stages.find(({ name }) => name === 'slow')?.status).toBe('cached');
  });

  it('stops only what needs it with keepGoing', async () => {
    const run = await runPlan(folder, yaml, { jobs: 2, keepGoing: true });
    expect(statuses(run)).toEqual({ bad: 'failed', slow: 'ran', later: 'ran', after: 'ran' });
    expect(run.outcome).toMatchObject({ status: 'failed', failed: 1, ran: 3 });
  });

  it('ends no wait of a stage that asks about failures', async () => {
    const run = await runPlan(
      folder,
      'stages: { bad: { uses: fake-fail }, tell: { uses: fake-write, needs: [bad] } }',
      {
        change: withFields({
          tell: {
            if: condition(({ ending }) => ending('bad') === 'failed', { toleratesFailure: true, stages: ['bad'] }),
          },
        }),
      },
    );
    expect(statuses(run)).toEqual({ bad: 'failed', tell: 'ran' });
    expect(run.outcome.status).toBe('failed');
  });
});

describe('a condition', () => {
  const yaml = `
stages:
  first: { uses: fake-write, with: { metric: 0.4 } }
  maybe: { uses: fake-write, needs: [first] }
  takes: { uses: fake-write, with: { data: "\${{ stages.maybe.outputs.data }}" } }
  needs: { uses: fake-write, needs: [maybe] }
`;
  const above = (bound: number) =>
    condition(({ metric }) => metric('first', 'score')! > bound, { text: 'score > bound', stages: ['first'] });

  it('that is false skips the stage and those that take its outputs, and is no failure', async () => {
    const run = await runPlan(folder, yaml, { change: withFields({ maybe: { if: above(0.5) } }) });
    expect(statuses(run)).toEqual({ first: 'ran', maybe: 'skipped', takes: 'skipped', needs: 'ran' });
    expect(run.of('stage-skipped').map(({ why }) => why)).toEqual([
      'if: score > bound is false',
      'it takes an output of "maybe", which was skipped',
    ]);
    expect(run.outcome).toMatchObject({ status: 'done', skipped: 2, ran: 2, faultCode: 0 });
  });

  it('that is true changes nothing', async () => {
    const run = await runPlan(folder, yaml, { change: withFields({ maybe: { if: above(0.3) } }) });
    expect(run.outcome).toMatchObject({ status: 'done', skipped: 0, ran: 4 });
  });

  it('does not let a stage start after a failure that it does not ask about', async () => {
    const bad = yaml.replace('metric: 0.4 }', 'metric: 0.4 }, expect: { score: { atLeast: 1 } }');
    const run = await runPlan(folder, bad, { change: withFields({ maybe: { if: above(0.3) } }) });
    expect(statuses(run)).toEqual({ first: 'ran', maybe: 'blocked', takes: 'blocked', needs: 'blocked' });
  });
});

describe('retry', () => {
  const yaml = 'stages: { count: { uses: fake-count, with: { steps: 4, failAt: 2 } } }';
  const retry = { times: 2, delayMs: 20, factor: 2, maxDelayMs: 1000 };

  it('begins again after a wait, from what the attempt before has saved', async () => {
    const run = await runPlan(folder, yaml, { change: withFields({ count: { retry } }) });
    expect(run.outcome).toMatchObject({ status: 'done', ran: 1, failed: 0 });
    expect(run.of('stage-retrying')).toMatchObject([
      { attempt: 1, attempts: 3, delayMs: 20, error: { message: 'the count broke off' } },
    ]);
    expect(run.of('stage-started').map(({ resumes }) => resumes)).toEqual([false, true]);
    expect(run.record.stages[0]?.failedAttempts).toHaveLength(1);
    const log = await readFile(join(folder, '.fr1', 'runs', run.record.id, 'logs', 'count.log'), 'utf8');
    expect(log).toContain('attempt 1 of 3 failed');
  });

  it('ends with the last error, and waits longer each time', async () => {
    const run = await runPlan(folder, 'stages: { bad: { uses: fake-fail } }', {
      change: withFields({ bad: { retry } }),
    });
    expect(run.of('stage-retrying').map(({ delayMs }) => delayMs)).toEqual([20, 40]);
    expect(run.of('stage-failed')).toHaveLength(1);
    expect(run.outcome).toMatchObject({ status: 'failed', failed: 1 });
  });

  it('is over at once when the run is stopped', async () => {
    const abort = new AbortController();
    const startedAt = performance.now();
    const run = await runPlan(folder, 'stages: { bad: { uses: fake-fail } }', {
      signal: abort.signal,
      change: withFields({ bad: { retry: { ...retry, delayMs: 60_000, maxDelayMs: 60_000 } } }),
      onEvent: (event) => {
        if (event.type === 'stage-retrying') abort.abort(new DOMException('interrupted', 'AbortError'));
      },
    });
    expect(performance.now() - startedAt).toBeLessThan(20_000);
    expect(run.outcome.status).toBe('interrupted');
  });
});

describe('timeout', () => {
  it('ends a stage that listens, and keeps what it saved', async () => {
    const yaml = 'stages: { count: { uses: fake-count, with: { steps: 2000, stepMs: 20 } } }';
    const run = await runPlan(folder, yaml, { change: withFields({ count: { timeoutMs: 1_500 } }) });
    expect(run.of('stage-failed')[0]?.error).toMatchObject({
      code: 'STAGE_TIMEOUT',
      message: expect.stringMatching(/within 1\.5 s/),
    });
    expect(run.outcome).toMatchObject({ status: 'failed', faultCode: 1 });
    const again = await runPlan(folder, yaml, { sets: ['stages.count.with.stepMs=0'] });
    expect(again.of('stage-started')[0]?.resumes).toBe(true);
  });

  it('ends the wait for a stage that does not listen', async () => {
    const run = await runPlan(folder, 'stages: { deaf: { uses: fake-deaf } }', {
      settleMs: 50,
      change: withFields({ deaf: { timeoutMs: 50 } }),
    });
    expect(run.of('stage-failed')[0]?.error.code).toBe('STAGE_TIMEOUT');
  });

  it('leaves a stage alone that ends in time', async () => {
    const run = await runPlan(folder, 'stages: { a: { uses: fake-write } }', {
      change: withFields({ a: { timeoutMs: 20_000 } }),
    });
    expect(run.outcome.status).toBe('done');
  });
});

describe('a silent stage', () => {
  it('is told with a hint, less and less often', async () => {
    const yaml = 'stages: { slow: { uses: fake-count, with: { steps: 1, stepMs: 2000 } } }';
    const run = await runPlan(folder, yaml, { quietMs: 100 });
    const times = run.of('stage-quiet').map(({ quietMs }) => quietMs);
    expect(times.length).toBeGreaterThanOrEqual(2);
    expect(times[1]).toBeGreaterThan(1.8 * times[0]!);
    expect(run.of('stage-quiet')[0]?.hint).toMatch(/^it has told no progress yet; Ctrl-C is safe/);
  });

  it('is not told while it speaks', async () => {
    const yaml = 'stages: { slow: { uses: fake-count, with: { steps: 60, stepMs: 20 } } }';
    let lastSignAt = performance.now();
    let signs = 0;
    const toldAfterMs: number[] = [];
    await runPlan(folder, yaml, {
      quietMs: 400,
      onEvent: ({ type }) => {
        const now = performance.now();
        if (type === 'stage-quiet') toldAfterMs.push(now - lastSignAt);
        else {
          lastSignAt = now;
          signs++;
        }
      },
    });
    expect(signs).toBeGreaterThan(10);
    // A busy machine may make pauses that are worth telling; none shorter than the limit is.
    expect(toldAfterMs.filter((ms) => ms < 390)).toEqual([]);
  });
});

describe('slots', () => {
  it('keep a stage that takes all of them alone', async () => {
    const stage = (name: string) => `  ${name}: { uses: fake-count, with: { steps: 2, stepMs: 20 } }`;
    const running = new Set<string>();
    const beside: string[] = [];
    await runPlan(folder, `stages:\n${['a', 'wide', 'b', 'c'].map(stage).join('\n')}\n`, {
      jobs: 2,
      change: (planned) => (planned.name === 'wide' ? { ...planned, resources: { device: false, slots: 9 } } : planned),
      onEvent: (event) => {
        if (event.type === 'stage-started') running.add(event.stage);
        if (event.type === 'stage-finished') running.delete(event.stage);
        if (running.has('wide')) beside.push(...[...running].filter((name) => name !== 'wide'));
      },
    });
    expect(beside).toEqual([]);
  });
});

describe('outputs of the pipeline', () => {
  const outputs = (path: string): readonly PipelineOutput[] => [
    {
      written: 'result',
      path,
      source: { kind: 'artifact-ref', stage: 'a', output: 'data', type: 'image-data' },
      mode: 'copy',
      position,
    },
  ];
  const yaml = 'stages: { a: { uses: fake-write, with: { text: one } } }';

  it('are placed after a run and after a cached one', async () => {
    const path = join(folder, 'result');
    for (const isNew of [true, false]) {
      const run = await runPlan(folder, yaml, { outputs: outputs(path) });
      expect(run.of('output-placed')).toMatchObject([{ output: 'result', isNew }]);
      expect(run.record.placed).toEqual([{ output: 'result', path }]);
      expect(await readFile(join(path, 'text.txt'), 'utf8')).toBe('one');
    }
  });

  it('fail the run where the place is taken, and leave what is there', async () => {
    const path = join(folder, 'result');
    await writeFile(path, 'mine');
    const run = await runPlan(folder, yaml, { outputs: outputs(path) });
    expect(run.outcome).toMatchObject({ status: 'failed', ran: 1, faultCode: 2 });
    expect(run.record.placed?.[0]?.error?.code).toBe('OUTPUT_PLACE_TAKEN');
    expect(await readFile(path, 'utf8')).toBe('mine');
  });
});

describe('secrets', () => {
  const CANARY = 'canary-7f3a91';

  it('reach the stage, and nothing that the run writes', async () => {
    const secrets = Secrets.read([{ name: 'TOKEN', optional: false, position }], { TOKEN: CANARY });
    const run = await runPlan(folder, 'stages: { a: { uses: fake-write, with: { text: x } } }', {
      secrets,
      change: (stage) => ({ ...stage, options: { ...stage.options, text: `\${{ env.TOKEN }}` } }),
    });
    const { path } = run.record.stages[0]!.outputs['data']!;
    expect(await readFile(join(path, 'text.txt'), 'utf8')).toBe(CANARY);
    expect(JSON.stringify(run.events)).toContain('wrote ***');
    const found: string[] = [];
    for (const entry of await readdir(join(folder, '.fr1'), { recursive: true, withFileTypes: true })) {
      const file = join(entry.parentPath, entry.name);
      if (entry.isFile() && (await readFile(file, 'utf8')).includes(CANARY)) found.push(entry.name);
    }
    expect(found).toEqual(['text.txt']);
  });
});
