import { describe, expect, it } from 'vitest';
import type { RunEvent, RunEventBody } from '../run/events.ts';
import { applyEvent, type RunRecord, startRecord } from '../run/run-record.ts';
import { plainRenderer } from './plain.ts';
import { closingLines, failureLines, tablesOf } from './summary.ts';

const START = Date.UTC(2026, 0, 1, 12);
const at = (seconds: number, body: RunEventBody): RunEvent => ({
  ...body,
  time: new Date(START + 1000 * seconds).toISOString(),
});
const digest = `sha256:${'a'.repeat(64)}`;
const path = '/project/.fr1/store/aaaa';

const progress = (seconds: number, done: number) =>
  at(seconds, { type: 'stage-progress', stage: 'sft', done, total: 600, unit: 'steps', note: 'loss 1.23' });

const EVENTS: readonly RunEvent[] = [
  at(0, {
    type: 'run-started',
    version: 1,
    run: '20260101-120000-000',
    pipeline: 'quickstart',
    file: 'pipelines/quickstart.yaml',
    workspace: '/project/.fr1',
    seed: 1,
    device: 'cpu',
    stages: ['birds', 'sft', 'tapo', 'eval'].map((name) => ({ name, kind: name, version: 1, seed: 1, options: {} })),
  }),
  at(0, {
    type: 'stage-cached',
    stage: 'birds',
    fingerprint: digest,
    inputs: {},
    outputs: {},
    metrics: {},
    tables: [],
    finishedAt: new Date(START - 5 * 60_000).toISOString(),
    durationMs: 12_345,
  }),
  at(1, {
    type: 'stage-planned',
    stage: 'sft',
    fingerprint: digest,
    inputs: {},
    reason: {
      kind: 'changed',
      changes: [
        { path: 'options.learningRate', before: 0.0001, after: 0.0002 },
        { path: 'inputs.data', before: 'sha256:aa', after: 'sha256:bb' },
        { path: 'options.views', before: undefined, after: ['a'] },
        { path: 'seed', before: 1, after: 2 },
      ],
    },
    needsDevice: true,
  }),
  at(1, { type: 'stage-started', stage: 'sft', resumes: true, device: 'cpu' }),
  progress(2, 100),
  progress(3, 110),
  progress(6.9, 149),
  progress(7, 150),
  at(7, { type: 'stage-metric', stage: 'sft', step: 150, values: { loss: 1.2 } }),
  at(7, { type: 'stage-log', stage: 'sft', message: 'two\nlines \u001b[31m' }),
  at(8, { type: 'stage-warn', stage: 'sft', message: 'images repeat' }),
  at(100, {
    type: 'stage-finished',
    stage: 'sft',
    fingerprint: digest,
    durationMs: 99_000,
    outputs: { model: { type: 'checkpoint', digest, path } },
    metrics: { accuracy: { value: 0.6125, low: 0.566, high: 0.6585, n: 400 } },
    tables: [
      {
        title: 'Accuracy',
        columns: ['split', 'closed', 'open'],
        rows: [
          ['seen', '61.3 ± 4.6', '40.0'],
          ['unseen', '9.1', '30.25'],
        ],
        notes: ['400 items'],
      },
    ],
  }),
  at(100, {
    type: 'stage-expectation-failed',
    stage: 'sft',
    expectation: { metric: 'accuracy', atLeast: 0.7, got: { value: 0.6125, low: 0.566, high: 0.6585 }, met: false },
  }),
  at(101, {
    type: 'stage-failed',
    stage: 'tapo',
    durationMs: 1_500,
    error: { code: 'RUNTIME_RUN_FAILED', message: 'onnxruntime failed', hint: 'use less', causes: ['bad node'] },
  }),
  at(101, { type: 'stage-stopped', stage: 'eval', why: 'blocked', by: 'tapo' }),
  at(101, {
    type: 'run-finished',
    status: 'failed',
    durationMs: 101_000,
    ran: 1,
    cached: 1,
    failed: 2,
    skipped: 0,
    record: 'run.json',
  }),
];

function recordOf(events: readonly RunEvent[]): RunRecord {
  const [first, ...rest] = events;
  if (first?.type !== 'run-started') throw new Error('the first event starts the run');
  return rest.reduce(applyEvent, startRecord(first, {}));
}

describe('plainRenderer()', () => {
  it('prints one line per change and at most one progress line per stage in five seconds', () => {
    const lines: string[] = [];
    const onEvent = plainRenderer((line) => lines.push(line));
    for (const event of EVENTS) onEvent(event);
    expect(lines.join('\n')).toMatchInlineSnapshot(`
      "quickstart: 4 stages, seed 1, device cpu
      [birds]  cached: made 5 min ago in 12 s
      [sft]    will run: options.learningRate changed 0.0001 -> 0.0002, inputs.data changed, options.views ["a"] is new, and 1 more
      [sft]    continues from its last checkpoint on cpu
      [sft]    100/600 steps  16 %  loss 1.23
      [sft]    150/600 steps  25 %  45 s left  loss 1.23
      [sft]    two lines  [31m
      [sft]    warning: images repeat
      [sft]    done in 1 min 39 s: accuracy 0.6125 [0.5660, 0.6585]
      [sft]    FAILED: expected accuracy at least 0.7, got 0.6125 [0.5660, 0.6585]
      [tapo]   FAILED after 1.5 s: onnxruntime failed
      [eval]   not run: stage "tapo" did not succeed
      "
    `);
  });
});

describe('the summary', () => {
  it('shows tables, failures with their causes, totals and places', () => {
    const record = recordOf(EVENTS);
    const text = [...tablesOf(record), ...failureLines(record), ...closingLines(record)].join('\n');
    expect(text).toMatchInlineSnapshot(`
      "sft: Accuracy
      split       closed   open
      ------  ----------  -----
      seen    61.3 ± 4.6   40.0
      unseen         9.1  30.25
      400 items

      stage "sft" does not meet its expectation: expected accuracy at least 0.7, got 0.6125 [0.5660, 0.6585]

      stage "tapo" failed:
      error[RUNTIME_RUN_FAILED]
        onnxruntime failed
        because: bad node
        hint: use less

      not run, because they need what failed: eval

      failed in 1 min 41 s: 1 ran, 1 cached, 1 failed, 1 not run
      warnings:
        sft: images repeat
      checkpoints:
        sft.model  /project/.fr1/store/aaaa
      to see this again: fr1 show 20260101-120000-000"
    `);
  });

  it('says that everything was cached', () => {
    const cached = EVENTS[1]!;
    const record = recordOf([
      at(0, {
        ...(EVENTS[0] as RunEvent & { type: 'run-started' }),
        stages: [{ name: 'birds', kind: 'dataset', version: 1, seed: 1, options: {} }],
      }),
      cached,
      at(0.5, {
        type: 'run-finished',
        status: 'done',
        durationMs: 500,
        ran: 0,
        cached: 1,
        failed: 0,
        skipped: 0,
        record: '',
      }),
    ]);
    expect(closingLines(record)[0]).toBe('everything cached: nothing had to run (1 stage checked in 0.5 s)');
  });

  it('tells how to go on after an interrupt', () => {
    const record = recordOf([
      EVENTS[0]!,
      at(2, {
        type: 'run-finished',
        status: 'interrupted',
        durationMs: 2_000,
        ran: 0,
        cached: 0,
        failed: 0,
        skipped: 0,
        record: '',
      }),
    ]);
    expect(closingLines(record)[0]).toBe(
      'stopped in 2.0 s; run the same command again: it continues from the last checkpoint',
    );
    expect(closingLines(record, { wasForced: true })[0]).toContain('without --force');
  });
});
