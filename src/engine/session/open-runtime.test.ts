import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { Fr1Error } from '../../errors/fr1-error.ts';
import { openRuntime } from './open-runtime.ts';
import { findOrtLibrary, loadOrtApi } from './ort-api.ts';
import { selfTest } from './self-test.ts';

const refusal = vi.hoisted(() => ({ error: undefined as Error | undefined }));

vi.mock('./c-api.ts', async (importOriginal) => {
  const original = await importOriginal<typeof import('./c-api.ts')>();
  return {
    ...original,
    openCApiRuntime: (options: object) =>
      refusal.error === undefined ? original.openCApiRuntime(options) : Promise.reject(refusal.error),
  };
});

afterEach(() => {
  refusal.error = undefined;
  vi.unstubAllEnvs();
});

async function nameOf(opening: ReturnType<typeof openRuntime>) {
  const runtime = await opening;
  await runtime.close();
  return runtime.name;
}

describe('loadOrtApi()', () => {
  // NOTE: these come first; the library is loaded once per process.
  it('refuses a file that is not there and one that is no library', () => {
    expect(() => loadOrtApi('no-such-library.so')).toThrow(expect.objectContaining({ code: 'RUNTIME_UNAVAILABLE' }));
    const text = fileURLToPath(import.meta.url);
    expect(() => loadOrtApi(text)).toThrow(expect.objectContaining({ code: 'RUNTIME_UNAVAILABLE' }));
  });
});

describe('findOrtLibrary()', () => {
  it.each([
    ['linux', 'x64'],
    ['linux', 'arm64'],
    ['darwin', 'arm64'],
    ['win32', 'x64'],
    ['win32', 'arm64'],
  ])('finds the library of %s/%s in the package', (platform, arch) => {
    expect(existsSync(findOrtLibrary(platform, arch))).toBe(true);
  });

  it('refuses a platform that the package does not ship for', () => {
    expect(() => findOrtLibrary('sunos', 'x64')).toThrow(expect.objectContaining({ code: 'RUNTIME_UNAVAILABLE' }));
  });
});

describe('openRuntime()', () => {
  it('takes the C API, with the CPUs that the process may use', async () => {
    const runtime = await openRuntime();
    expect(runtime.name).toBe('c-api');
    expect(runtime.threads).toBeGreaterThanOrEqual(1);
    expect(runtime.fallbackReason).toBeUndefined();
    await runtime.close();
  });

  it('keeps the library loaded when garbage is collected', async () => {
    setFlagsFromString('--expose-gc');
    const collectGarbage: () => void = runInNewContext('gc');
    const runtime = await openRuntime();
    for (let i = 0; i < 3; i++) {
      collectGarbage();
      await new Promise((resolve) => setImmediate(resolve));
    }
    await selfTest(runtime);
    await runtime.close();
  });

  it('takes the worker when that is preferred, by argument or by FR1_RUNTIME', async () => {
    expect(await nameOf(openRuntime({ prefer: 'worker' }))).toBe('worker');
    vi.stubEnv('FR1_RUNTIME', 'worker');
    expect(await nameOf(openRuntime())).toBe('worker');
    expect(await nameOf(openRuntime({ prefer: 'c-api' }))).toBe('c-api');
  });

  it('refuses another FR1_RUNTIME', async () => {
    vi.stubEnv('FR1_RUNTIME', 'gpu');
    await expect(openRuntime()).rejects.toMatchObject({ code: 'RUNTIME_UNAVAILABLE' });
  });

  it('falls back to the worker when the C API is refused, and keeps the reason', async () => {
    refusal.error = new Fr1Error('RUNTIME_UNAVAILABLE', 'no prebuilt koffi here');
    const onFallback = vi.fn();
    const runtime = await openRuntime({ threads: 1, onFallback });
    expect(runtime.name).toBe('worker');
    expect(runtime.fallbackReason).toBe(refusal.error);
    expect(onFallback).toHaveBeenCalledExactlyOnceWith(refusal.error);
    await runtime.close();
  });

  it('does not hide any other error behind the fallback', async () => {
    refusal.error = new TypeError('a mistake in the program');
    await expect(openRuntime()).rejects.toBe(refusal.error);
  });
});
