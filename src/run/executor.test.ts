import { appendFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { fakeLease, runPlan } from '../../test/helpers/run-plan.ts';
import { temporaryFolder } from '../../test/helpers/temporary-folder.ts';
import { reasonText } from '../ui/words.ts';
import { Workspace } from './workspace.ts';

const CHAIN = `
name: chain
seed: 1
stages:
  first: { uses: fake-write, with: { text: one } }
  second: { uses: fake-count, with: { steps: 5, data: "\${{ stages.first.outputs.data }}" } }
  third: { uses: fake-write, with: { text: three, metric: 0.7 } }
`;

describe('executePlan()', () => {
  it('runs every stage once and takes all from the cache the second time', async () => {
    const folder = await temporaryFolder();
    const first = await runPlan(folder, CHAIN);
    expect(first.outcome).toEqual({ status: 'done', ran: 3, cached: 0, failed: 0, skipped: 0, faultCode: 0 });
    expect(first.of('stage-planned').map((event) => event.reason.kind)).toEqual(['first', 'first', 'first']);

    const second = await runPlan(folder, CHAIN);
    expect(second.outcome).toEqual({ status: 'done', ran: 0, cached: 3, failed: 0, skipped: 0, faultCode: 0 });
    expect(second.of('stage-started')).toEqual([]);
    expect(second.record.stages.map((stage) => stage.outputs)).toEqual(
      first.record.stages.map((stage) => stage.outputs),
    );
    expect(second.record.stages[2]?.metrics).toEqual(first.record.stages[2]?.metrics);
    expect(second.record.stages[2]?.tables).toEqual(first.record.stages[2]?.tables);
  });

  it('gives a stage the artifacts of the stages before it', async () => {
    const folder = await temporaryFolder();
    const run = await runPlan(
      folder,
      `
stages:
  a: { uses: fake-write, with: { text: A } }
  b: { uses: fake-write, with: { text: B, data: "\${{ stages.a.outputs.data }}" } }
`,
    );
    const output = run.record.stages[1]?.outputs['data'];
    expect(await readFile(join(output!.path, 'text.txt'), 'utf8')).toBe('BA');
    expect(output!.path.startsWith(join(folder, '.fr1', 'store'))).toBe(true);
  });

  it('runs a stage with a changed option and those that its result reaches, and says why', async () => {
    const folder = await temporaryFolder();
    await runPlan(folder, CHAIN);
    const run = await runPlan(folder, CHAIN, { sets: ['stages.first.with.text=uno'] });
    expect(run.outcome).toMatchObject({ ran: 2, cached: 1 });
    const [first, second] = run.of('stage-planned');
    expect(reasonText(first!.reason)).toBe('options.text changed one -> uno');
    expect(reasonText(second!.reason)).toBe('inputs.data changed');

    const rate = await runPlan(folder, CHAIN, { sets: ['stages.second.with.rate=2', 'stages.first.with.text=uno'] });
    expect(rate.outcome).toMatchObject({ ran: 1, cached: 2 });
    expect(reasonText(rate.of('stage-planned')[0]!.reason)).toBe('options.rate changed 1 -> 2');
  });

  it('stops at a changed stage whose result is the same as before', async () => {
    const folder = await temporaryFolder();
    await runPlan(folder, CHAIN);
    const run = await runPlan(folder, CHAIN, { sets: ['stages.first.with.metric=0.9'] });
    expect(run.outcome).toMatchObject({ ran: 1, cached: 2 });
  });

  it('runs forced stages and what follows although they are finished', async () => {
    const folder = await temporaryFolder();
    await runPlan(folder, CHAIN);
    const run = await runPlan(folder, CHAIN, { selection: { force: ['first'] } });
    expect(run.of('stage-planned').map((event) => [event.stage, event.reason.kind])).toEqual([
      ['first', 'forced'],
      ['second', 'forced'],
    ]);
    expect(run.outcome).toMatchObject({ ran: 2, cached: 1 });
  });

  it('continues a failed stage from its state directory and ends with the uninterrupted digest', async () => {
    const [folder, other] = [await temporaryFolder(), await temporaryFolder()];
    const journal = join(folder, 'journal.txt');
    const yaml = `stages: { count: { uses: fake-count, with: { steps: 6, failAt: 4, journal: "${journal}" } } }`;
    const failed = await runPlan(folder, yaml);
    expect(failed.outcome).toEqual({ status: 'failed', ran: 0, cached: 0, failed: 1, skipped: 0, faultCode: 1 });
    expect(failed.of('stage-started')[0]?.resumes).toBe(false);
    expect(failed.of('stage-failed')[0]?.error).toMatchObject({ code: 'STAGE_FAILED', message: 'the count broke off' });

    const resumed = await runPlan(folder, yaml);
    expect(resumed.of('stage-planned')[0]?.reason).toEqual({ kind: 'unfinished' });
    expect(resumed.of('stage-started')[0]?.resumes).toBe(true);
    expect(await readFile(journal, 'utf8')).toBe('count from 0\ncount from 4\n');

    const whole = await runPlan(other, yaml, { sets: ['stages.count.with.failAt=0'] });
    expect(resumed.record.stages[0]?.outputs['model']?.digest).toBe(whole.record.stages[0]?.outputs['model']?.digest);
  });

  it('keeps what a failing stage does not need, and blocks what does', async () => {
    const folder = await temporaryFolder();
    const run = await runPlan(
      folder,
      `
stages:
  good: { uses: fake-write }
  bad: { uses: fake-fail }
  after: { uses: fake-write, with: { data: "\${{ stages.bad.outputs.data }}" } }
`,
    );
    expect(run.outcome).toEqual({ status: 'failed', ran: 1, cached: 0, failed: 1, skipped: 0, faultCode: 1 });
    expect(run.of('stage-failed')[0]?.error).toMatchObject({
      message: 'the disk is on fire',
      causes: ['too hot'],
    });
    expect(run.of('stage-stopped')).toMatchObject([{ stage: 'after', why: 'blocked', by: 'bad' }]);
    expect(run.record.stages.map((stage) => stage.status)).toEqual(['ran', 'failed', 'blocked']);
  });

  it.each([
    ['no-output', /left output "data" unusable/],
    ['nan-metric', /returned NaN as metric "score"/],
  ])('fails a stage that ends with %s', async (how, message) => {
    const folder = await temporaryFolder();
    const run = await runPlan(folder, `stages: { bad: { uses: fake-fail, with: { how: ${how} } } }`);
    const error = run.of('stage-failed')[0]?.error;
    expect(error?.code).toBe('STAGE_RESULT_INVALID');
    expect(error?.message).toMatch(message);
  });

  it('fails the run when a metric misses its bounds, fresh or cached, and blocks what needs the stage', async () => {
    const folder = await temporaryFolder();
    const yaml = `
stages:
  scored: { uses: fake-write, with: { metric: 0.4 }, expect: { score: { atLeast: 0.6 } } }
  after: { uses: fake-write, needs: [scored] }
`;
    for (const ran of [1, 0]) {
      const run = await runPlan(folder, yaml);
      expect(run.outcome).toMatchObject({ status: 'failed', ran, failed: 1, faultCode: 1 });
      expect(run.of('stage-expectation-failed')[0]?.expectation).toMatchObject({
        metric: 'score',
        atLeast: 0.6,
        got: { value: 0.4, low: 0.30000000000000004, high: 0.5 },
        met: false,
      });
      expect(run.of('stage-stopped', 'after')[0]?.why).toBe('blocked');
    }
    const met = await runPlan(folder, yaml, { sets: ['stages.scored.expect.score.atLeast=0.4'] });
    expect(met.outcome).toMatchObject({ status: 'done', ran: 1, cached: 1 });
  });

  it('makes a damaged artifact again, with a warning, and never uses it', async () => {
    const folder = await temporaryFolder();
    const first = await runPlan(folder, CHAIN);
    const { path, digest } = first.record.stages[0]!.outputs['data']!;
    await writeFile(join(path, 'text.txt'), 'two');

    const second = await runPlan(folder, CHAIN);
    expect(second.of('stage-warn', 'first')[0]?.message).toMatch(/the content of text\.txt has changed/);
    expect(second.of('stage-planned')[0]?.reason).toMatchObject({ kind: 'damaged', output: 'data' });
    expect(second.outcome).toMatchObject({ status: 'done', ran: 1, cached: 2 });
    expect(second.record.stages[0]!.outputs['data']!.digest).toBe(digest);
    expect(await readFile(join(path, 'text.txt'), 'utf8')).toBe('one');
  });

  it('stops at an abort, keeps the state, and continues afterwards', async () => {
    const folder = await temporaryFolder();
    const yaml = 'stages: { count: { uses: fake-count, with: { steps: 200, stepMs: 10 } } }';
    const abort = new AbortController();
    const run = await runPlan(folder, yaml, {
      signal: abort.signal,
      onEvent: (event) => {
        if (event.type !== 'stage-metric' || event.step !== 5) return;
        abort.abort(new DOMException('interrupted', 'AbortError'));
      },
    });
    expect(run.of('stage-metric').at(-1)?.step).toBe(5);
    expect(run.outcome.status).toBe('interrupted');
    expect(run.of('stage-stopped')).toMatchObject([{ stage: 'count', why: 'interrupted' }]);
    expect(run.record).toMatchObject({ status: 'interrupted', stages: [{ status: 'interrupted' }] });

    const resumed = await runPlan(folder, yaml, { sets: ['stages.count.with.stepMs=0'] });
    expect(resumed.of('stage-started')[0]?.resumes).toBe(true);
    expect(resumed.of('stage-metric')[0]?.step).toBe(6);
  });

  it('does not wait for a stage that ignores the abort', async () => {
    const folder = await temporaryFolder();
    const abort = new AbortController();
    const startedAt = performance.now();
    const run = await runPlan(folder, 'stages: { deaf: { uses: fake-deaf } }', {
      signal: abort.signal,
      settleMs: 200,
      onEvent: (event) => {
        if (event.type === 'stage-progress') abort.abort(new DOMException('interrupted', 'AbortError'));
      },
    });
    expect(performance.now() - startedAt).toBeLessThan(2_000);
    expect(run.outcome.status).toBe('interrupted');
    expect(run.of('stage-stopped')).toMatchObject([{ stage: 'deaf', why: 'interrupted' }]);
  });

  it('leases a device for stages that ask for one, and gives it back', async () => {
    const folder = await temporaryFolder();
    let leases = 0;
    let releases = 0;
    const lease = async () => {
      leases++;
      return fakeLease(() => releases++);
    };
    const yaml = 'stages: { a: { uses: fake-device }, b: { uses: fake-write } }';
    const run = await runPlan(folder, yaml, { lease });
    expect([leases, releases]).toEqual([1, 1]);
    expect(run.of('stage-started').map((event) => [event.stage, event.device])).toEqual(
      expect.arrayContaining([
        ['a', 'cpu'],
        ['b', null],
      ]),
    );
    await runPlan(folder, yaml, { lease });
    expect(leases).toBe(1);
  });

  it('hands stages the memory of their device', async () => {
    const unused = () => {
      throw new Error('nothing is computed');
    };
    const memory = { allocate: unused, upload: unused, download: unused };
    for (const [own, text] of [
      [undefined, 'cpu'],
      [memory, 'cpu with its own memory'],
    ] as const) {
      const folder = await temporaryFolder();
      const lease = async () => ({ ...fakeLease(), memory: own });
      const { record } = await runPlan(folder, 'stages: { a: { uses: fake-device } }', { lease });
      const output = record.stages[0]!.outputs['data']!.path;
      expect(await readFile(join(output, 'text.txt'), 'utf8')).toBe(text);
    }
  });

  it('runs no more stages at once than it has slots', async () => {
    const folder = await temporaryFolder();
    const stage = (name: string) => `  ${name}: { uses: fake-count, with: { steps: 3, stepMs: 15 } }`;
    const yaml = `stages:\n${['a', 'b', 'c', 'd', 'e'].map(stage).join('\n')}\n`;
    let running = 0;
    let most = 0;
    const run = await runPlan(folder, yaml, {
      jobs: 2,
      onEvent: (event) => {
        if (event.type === 'stage-started') most = Math.max(most, ++running);
        if (event.type === 'stage-finished') running--;
      },
    });
    expect(run.outcome.ran).toBe(5);
    expect(most).toBe(2);
  });

  it('does the same work once when two stages are alike', async () => {
    const folder = await temporaryFolder();
    const run = await runPlan(
      folder,
      'stages: { a: { uses: fake-write, with: { seed: 7 } }, b: { uses: fake-write, with: { seed: 7 } } }',
    );
    expect(run.outcome).toMatchObject({ ran: 1, cached: 1 });
  });

  it('notices a changed local input', async () => {
    const folder = await temporaryFolder();
    const input = join(folder, 'input');
    const yaml = 'stages: { a: { uses: fake-write, with: { data: ./input } } }';
    await mkdir(input);
    await writeFile(join(input, 'dataset.json'), '{}');
    await writeFile(join(input, 'rows.jsonl'), '');
    await writeFile(join(input, 'text.txt'), 'x');
    const first = await runPlan(folder, yaml);
    expect(first.of('stage-failed')).toEqual([]);
    expect((await runPlan(folder, yaml)).outcome).toMatchObject({ cached: 1 });
    await appendFile(join(input, 'text.txt'), 'y');
    const changed = await runPlan(folder, yaml);
    expect(reasonText(changed.of('stage-planned')[0]!.reason)).toBe('inputs.data changed');
  });

  it('leaves no work directory behind after success', async () => {
    const folder = await temporaryFolder();
    const run = await runPlan(folder, CHAIN);
    const workspace = new Workspace(join(folder, '.fr1'));
    const fingerprint = run.record.stages[1]!.fingerprint!;
    expect(await workspace.hasState(fingerprint)).toBe(false);
    await expect(readFile(workspace.workPath(fingerprint))).rejects.toMatchObject({ code: 'ENOENT' });
  });
});
