import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { MemoryWatch } from './memory-watch.ts';

const SIZE = 200 * 2 ** 20;

describe('MemoryWatch', () => {
  it('sees what was taken for a moment only', async () => {
    using watch = new MemoryWatch(5);
    let taken: Uint8Array | null = new Uint8Array(SIZE).fill(1);
    await sleep(30);
    expect(taken[0]).toBe(1);
    taken = null;
    expect(watch.peakBytes).toBeGreaterThan(watch.startBytes + 0.5 * SIZE);
  });

  it('does not count what was there before it began and is gone', () => {
    using watch = new MemoryWatch();
    expect(watch.peakBytes).toBeGreaterThanOrEqual(watch.startBytes);
    expect(watch.peakBytes).toBeLessThan(watch.startBytes + SIZE);
  });
});
