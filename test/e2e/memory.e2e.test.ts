/** What is expected of memory beside what is taken, in processes of their own; `node bench/memory.mjs` has larger cases. */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import type { MemoryEstimate } from '../../src/engine/models/qwen2_5_vl/estimate.ts';

const BENCH = fileURLToPath(new URL('../../bench/memory.mjs', import.meta.url));

async function measured(name: string): Promise<{ peak: number; estimate: number; parts: MemoryEstimate }> {
  const { stdout } = await promisify(execFile)(process.execPath, [BENCH, '--case', name]);
  return JSON.parse(stdout);
}

describe('estimateMemory()', () => {
  it.each(['train-5M', 'tapo-5M'])('lies near the measured peak: %s', { timeout: 240_000 }, async (name) => {
    const { peak, estimate, parts } = await measured(name);
    expect(parts.activations).toBeGreaterThan(parts.process);
    expect(estimate / peak).toBeGreaterThan(0.85);
    expect(estimate / peak).toBeLessThan(1.15);
  });
});
