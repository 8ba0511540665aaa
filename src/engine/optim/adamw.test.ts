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

/** Recorded with torch 2.11: AdamW(lr=0.125, weight_decay=0.5), the gradient of the second parameter None in the second update. */
it('leaves weights alone that need images in an update without, as torch does where a gradient is None', async () => {
  const store = new ParameterStore([
    { name: 'text', shape: [3], decay: true },
    { name: 'vision', shape: [2], decay: true, needsImages: true },
  ]);
  store.flat.set([0.5, -1, 2, 1, -0.25]);
  const optimizer = await AdamW.create(bareSource(runtime), store, { weightDecay: 0.5 });
  const updates = [
    { gradients: [0.25, -0.5, 1, 0.5, -0.25], weights: [0.34375, -0.8125, 1.75, 0.8125, -0.109375015] },
    { gradients: [0.5, 0.5, -0.25, 0, 0], weights: [0.2016179, -0.76829767, 1.5819415, 0.8125, -0.109375015] },
    {
      gradients: [-0.125, 0.25, 0.5, 0.25, 0.75],
      weights: [0.11544093, -0.75170839, 1.4073858, 0.64519632, -0.16431279],
    },
  ];
  for (const [i, { gradients, weights }] of updates.entries()) {
    await optimizer.step(Float32Array.from(gradients), 0.125, { hasImages: i !== 1 });
    weights.forEach((weight, at) => {
      expect(store.flat[at], `weight ${at} after update ${i + 1}`).toBeCloseTo(weight, 6);
    });
  }
  await optimizer.release();
});
