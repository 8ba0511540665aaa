/** Against the formula in float64; PyTorch's trajectory is in models/qwen2_5_vl/training-model.test.ts. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { bareSource } from '../../../test/helpers/session-source.ts';
import { openRuntime } from '../session/open-runtime.ts';
import type { Runtime } from '../session/runtime.ts';
import { AdamW } from './adamw.ts';
import { ParameterStore } from './parameter-store.ts';

let runtime: Runtime;

beforeAll(async () => {
  runtime = await openRuntime({ threads: 1 });
});

afterAll(() => runtime.close());

it('updates every weight once, with decay where it applies, in stores longer than a block', async () => {
  const [decayed, free] = [2 ** 20 + 3, 2 ** 20 + 1];
  const store = new ParameterStore([
    { name: 'matrix', shape: [decayed], decay: true },
    { name: 'bias', shape: [free], decay: false },
  ]);
  const start = (i: number) => Math.fround(Math.sin(i));
  const gradient = (i: number, step: number) => Math.fround(Math.cos(i * step) / 10);
  store.flat.forEach((_, i) => {
    store.flat[i] = start(i);
  });
  const optimizer = await AdamW.create(bareSource(runtime), store, { weightDecay: 0.1, epsilon: 1e-3 });
  const gradients = store.buffer();
  const learningRate = 0.01;
  for (const step of [1, 2]) {
    gradients.forEach((_, i) => {
      gradients[i] = gradient(i, step);
    });
    await optimizer.step(gradients, learningRate);
  }
  let furthest = 0;
  store.flat.forEach((got, i) => {
    let [p, m, v] = [start(i), 0, 0];
    for (const step of [1, 2]) {
      const g = gradient(i, step);
      m = 0.9 * m + 0.1 * g;
      v = 0.999 * v + 0.001 * g * g;
      p *= 1 - learningRate * (i < decayed ? 0.1 : 0);
      p -= (learningRate / (1 - 0.9 ** step)) * (m / (Math.sqrt(v / (1 - 0.999 ** step)) + 1e-3));
    }
    furthest = Math.max(furthest, Math.abs(got - p));
  });
  expect(furthest).toBeLessThan(1e-6);
  await optimizer.release();
});
