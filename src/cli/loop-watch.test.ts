import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import type { RunEvent } from '../run/events.ts';
import { LoopWatch } from './loop-watch.ts';

function hold(ms: number): void {
  const until = performance.now() + ms;
  while (performance.now() < until);
}

const time = new Date(0).toISOString();
const started = (stage: string): RunEvent => ({ type: 'stage-started', stage, resumes: false, device: null, time });
const stopped = (stage: string): RunEvent => ({ type: 'stage-stopped', stage, why: 'interrupted', time });

describe('LoopWatch', () => {
  it('charges a stall to the stages that run, and to no others', async () => {
    const watch = new LoopWatch();
    await sleep(40);
    watch.onEvent(started('early'));
    await sleep(40);
    hold(200);
    watch.onEvent(stopped('early'));
    await sleep(60);
    watch.onEvent(started('late'));
    await sleep(60);
    const longest = new Map(
      watch.lines().map((line) => [/in (\w+):/.exec(line)![1], Number(/(\d+) ms/.exec(line)![1])]),
    );
    expect(longest.get('early')).toBeGreaterThan(150);
    expect(longest.get('late')).toBeLessThan(longest.get('early')!);
  });
});
