import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { openRuntime } from '../../src/engine/session/open-runtime.ts';
import { temporaryFolder } from '../../test/helpers/temporary-folder.ts';
import { type FakeContextSettings, fakeContext } from '../testing/fake-context.ts';
import { leaseOf } from '../testing/tiny-model.ts';
import type { PretrainOptions } from './options.ts';
import { pretrainStage } from './stage.ts';

const runtime = await openRuntime();
afterAll(() => runtime.close());

const OPTIONS: Partial<PretrainOptions> = {
  world: 'procedural-birds',
  images: 30,
  batchSize: 6,
  microBatchSize: 3,
  warmupSteps: 0,
  saveEvery: 2,
  architecture: {
    hiddenSize: 48,
    layers: 1,
    heads: 2,
    keyValueHeads: 1,
    intermediateSize: 32,
    visionHiddenSize: 16,
    visionLayers: 1,
    visionHeads: 2,
    visionIntermediateSize: 16,
  },
};

/** @param cutAfter update after which the signal of the settings is aborted */
async function train(settings: FakeContextSettings, cutAfter?: { step: number; abort: AbortController }) {
  using context = fakeContext(pretrainStage, OPTIONS, { lease: leaseOf(runtime), ...settings });
  const steps: number[] = [];
  const result = await pretrainStage.run({
    ...context,
    lease: leaseOf(runtime),
    metric: (step) => {
      steps.push(step);
      if (step === cutAfter?.step) cutAfter.abort.abort(new Error('stopped'));
    },
  });
  const weights = await readFile(path.join(context.outputs['model']!, 'model.safetensors'));
  return { steps, metrics: result.metrics, weights, messages: context.messages };
}

describe('pretrain stage', () => {
  it('gives the same bytes and metrics after an abort and a resume', async () => {
    const whole = await train({});
    const state = await temporaryFolder();
    const abort = new AbortController();
    await expect(train({ state, signal: abort.signal }, { step: 3, abort })).rejects.toThrow('stopped');
    const rest = await train({ state });
    expect(rest.steps).toEqual([3, 4, 5]);
    expect(rest.messages).toContainEqual('continuing after 2 of 5 updates');
    expect(rest.weights.equals(whole.weights)).toBe(true);
    expect(rest.metrics).toEqual(whole.metrics);
  });
});
