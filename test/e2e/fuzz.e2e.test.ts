import { expect, it } from 'vitest';
import { fuzz } from '../fuzz/run-fuzz.ts';

it('fr1 answers 100 damaged pipelines with a placed error or a plan', async () => {
  const { done, rssMiB, codes } = await fuzz(1_000_000, 100, 30_000);
  expect(done).toBe(100);
  expect(codes['2']).toBeGreaterThan(20);
  expect(rssMiB).toBeLessThan(1024);
});
