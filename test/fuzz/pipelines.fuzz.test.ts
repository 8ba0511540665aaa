/** 10,000 damaged pipelines: `npm run test:fuzz`. */
import { describe, expect, it } from 'vitest';
import { fuzz } from './run-fuzz.ts';

describe('fr1 on 10,000 damaged pipelines', () => {
  it('answers each in time with a placed error or a plan, in bounded memory', async () => {
    const startedAt = performance.now();
    const figures = await fuzz(0, 10_000, 30_000);
    console.log({ ...figures, seconds: Math.round((performance.now() - startedAt) / 1000) });
    expect(figures.done).toBe(10_000);
    expect(Object.keys(figures.reports).length).toBeGreaterThan(30);
    expect(figures.rssMiB).toBeLessThan(1024);
  });
});
