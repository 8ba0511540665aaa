import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { trainingOf } from '../src/engine/adapters/choice.ts';
import { openModelFolder } from '../src/engine/adapters/model-folder.ts';
import { openRuntime } from '../src/engine/session/open-runtime.ts';
import type { Runtime } from '../src/engine/session/runtime.ts';
import { sizeOf } from '../src/engine/tensor.ts';
import type { Fr1Error } from '../src/errors/fr1-error.ts';
import { checkTrainingMemory, trainingBytes, trainingDisk } from './memory-check.ts';
import { writeTinyModel } from './testing/tiny-model.ts';

let runtime: Runtime;
let folder: string;
beforeAll(async () => {
  runtime = await openRuntime({ threads: 1 });
  folder = mkdtempSync(path.join(tmpdir(), 'fr1-memory-'));
  await writeTinyModel(runtime, folder);
});
afterAll(async () => {
  rmSync(folder, { recursive: true });
  await runtime.close();
});

const ALL = { vision: true, projector: true, text: true };

function check(
  available: number,
  adapter: { kind: 'full' | 'lora' } = { kind: 'full' },
  provider: 'cpu' | 'webgpu' = 'cpu',
) {
  const problems: Fr1Error[] = [];
  checkTrainingMemory(
    { model: { path: folder }, adapter, trainable: ALL },
    { provider, problem: (error) => problems.push(error as Fr1Error) },
    available,
  );
  return { problems };
}

describe('checkTrainingMemory()', () => {
  it('is content where there is enough', () => {
    expect(check(1024 ** 3).problems).toEqual([]);
  });

  it('offers an adapter where that fits, and a smaller model where it does not', () => {
    expect(check(1000).problems).toEqual([
      expect.objectContaining({ code: 'DEVICE_MEMORY', hint: expect.stringContaining('quickstart') }),
    ]);
    const bytesOf = (kind: 'full' | 'lora') => trainingBytes(folder, trainingOf({ kind }, ALL, 0)).bytes;
    expect(bytesOf('lora')).toBeLessThan(bytesOf('full'));
    expect(check(bytesOf('lora')).problems[0]!.hint).toContain('adapter: { kind: lora }');
  });

  it('says nothing of a device with memory of its own', () => {
    expect(check(1000, { kind: 'full' }, 'webgpu').problems).toEqual([]);
  });

  it('leaves a model that is yet to be made alone', () => {
    const fail = () => {
      throw new Error('not called');
    };
    checkTrainingMemory({ model: null, adapter: { kind: 'full' }, trainable: ALL }, { provider: 'cpu', problem: fail });
  });
});

describe('trainingDisk()', () => {
  it('counts what is trained thrice and the new model once, and beside an adapter the base as it is stored', () => {
    const weights = openModelFolder(folder).base.parameters.reduce((sum, { shape }) => sum + sizeOf(shape), 0);
    const room = (kind: 'full' | 'lora', trainable = ALL) =>
      trainingDisk({ model: { path: folder }, adapter: { kind }, trainable }, weights);
    expect(room('full')).toBe(weights * 16);
    const { trained } = trainingBytes(folder, trainingOf({ kind: 'lora' }, ALL, 0));
    expect(room('lora')).toBe(weights * 4 + trained * 16);
    expect(room('full', { ...ALL, text: false })).toBeLessThan(room('full'));
  });
});
