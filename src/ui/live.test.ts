import { PassThrough } from 'node:stream';
import { describe, expect, it, vi } from 'vitest';
import type { RunEventBody } from '../run/events.ts';
import { liveRenderer } from './live.ts';

const START = Date.UTC(2026, 0, 1, 12);

/** What a terminal shows in the end: text behind the last clearing of lines. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: escape sequences are what is removed.
const plain = (text: string) => text.replace(/\u001b\[[0-9;?]*[A-Za-z]/g, '');

describe('liveRenderer()', () => {
  it('shows a row per stage, its progress while it runs and its end afterwards', async () => {
    const output = new PassThrough();
    const chunks: string[] = [];
    output.on('data', (chunk: Buffer) => chunks.push(chunk.toString()));
    const stdout = Object.assign(output, { isTTY: true, columns: 100, rows: 40 }) as unknown as NodeJS.WriteStream;
    const view = liveRenderer(stdout, stdout);
    // The terminal is redrawn in intervals, later on a busy machine.
    const drawn = (text: string) =>
      vi.waitFor(() => expect(plain(chunks.join(''))).toContain(text), { timeout: 5_000 });
    let second = 0;
    const emit = (body: RunEventBody) =>
      view.onEvent({ ...body, time: new Date(START + 1000 * second++).toISOString() });

    emit({
      type: 'run-started',
      version: 1,
      run: 'r',
      pipeline: 'demo',
      file: 'p.yaml',
      workspace: '/w',
      seed: 1,
      device: 'cpu',
      stages: ['data', 'train', 'test', 'last'].map((name) => ({ name, kind: name, version: 1, seed: 1, options: {} })),
    });
    const cached = { fingerprint: '', inputs: {}, outputs: {}, metrics: {}, tables: [], durationMs: 2_000 };
    emit({ type: 'stage-cached', stage: 'data', ...cached, finishedAt: new Date(START).toISOString() });
    emit({
      type: 'stage-planned',
      stage: 'train',
      fingerprint: '',
      inputs: {},
      reason: { kind: 'first' },
      needsDevice: true,
    });
    await drawn('train  waits for the device; it has not run before');

    emit({ type: 'stage-started', stage: 'train', resumes: false, device: 'cpu' });
    emit({ type: 'stage-progress', stage: 'train', done: 10, total: 60, unit: 'steps', note: 'loss 2' });
    emit({ type: 'stage-progress', stage: 'train', done: 20, total: 60, unit: 'steps', note: 'loss 1' });
    await drawn('train  20/60 steps  33 %  4.0 s left  loss 1');

    chunks.length = 0;
    emit({ type: 'stage-finished', stage: 'train', ...cached });
    const expectation = { metric: 'score', atLeast: 1, got: { value: 0.5 }, met: false };
    emit({ type: 'stage-expectation-failed', stage: 'train', expectation });
    emit({ type: 'stage-stopped', stage: 'test', why: 'blocked', by: 'train' });
    emit({
      type: 'run-finished',
      status: 'failed',
      durationMs: 1,
      ran: 1,
      cached: 1,
      failed: 1,
      skipped: 0,
      record: '',
    });
    await view.close();
    const rows = plain(chunks.join(''))
      .trimEnd()
      .split('\n')
      .slice(-4)
      .map((row) => row.trim().slice(2).trim());
    expect(rows).toEqual([
      'data   cached: made just now in 2.0 s',
      'train  expected score at least 1, got 0.5000',
      'test   not run: "train" did not succeed',
      'last   not run',
    ]);
  });
});
