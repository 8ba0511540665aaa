import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { onnxModel } from '../../../test/helpers/onnx-model.ts';
import { float32 } from '../tensor.ts';
import { openCApiRuntime } from './c-api.ts';
import type { Runtime } from './runtime.ts';

const openers = { 'c-api': openCApiRuntime };

const matmulModel = onnxModel({
  nodes: [{ op: 'MatMul', inputs: ['a', 'b'], outputs: ['c'], name: 'product' }],
  inputs: [
    { name: 'a', shape: ['M', 'K'] },
    { name: 'b', shape: ['K', 'N'] },
  ],
  outputs: [{ name: 'c', shape: ['M', 'N'] }],
});

describe.each(Object.entries(openers))('%s runtime', (name, open) => {
  let runtime: Runtime;
  beforeAll(async () => {
    runtime = await open({ threads: 2 });
  });
  afterAll(() => runtime.close());

  it('says which one it is', () => {
    expect(runtime.name).toBe(name);
    expect(runtime.version).toMatch(/^1\.\d+\.\d+/);
  });

  it('runs one session with several shapes', async () => {
    const session = await runtime.createSession(matmulModel);
    expect(session.inputs).toEqual([
      { name: 'a', dtype: 'float32', shape: [-1, -1] },
      { name: 'b', dtype: 'float32', shape: [-1, -1] },
    ]);
    const small = await session.run(
      { a: float32([1, 2], Float32Array.of(1, 2)), b: float32([2, 1], Float32Array.of(3, 4)) },
      { c: null },
    );
    expect(small).toEqual({ c: float32([1, 1], Float32Array.of(11)) });
    await session.release();
  });
});
