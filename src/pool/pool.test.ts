import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it, vi } from 'vitest';
import { onnxModel } from '../../test/helpers/onnx-model.ts';
import type { Runtime, Session, SessionOptions } from '../engine/session/runtime.ts';
import { float32, type HostTensor } from '../engine/tensor.ts';
import { Fr1Error } from '../errors/fr1-error.ts';
import { SessionPool, type SessionPoolOptions } from './pool.ts';

/** A runtime that only keeps book: of sessions made and released, and of runs, which end when told to. */
class BookRuntime implements Runtime {
  readonly name = 'worker';
  readonly version = '1.0.0';
  readonly threads = 3;
  readonly fallbackReason = new Error('a fake');
  readonly made: string[] = [];
  readonly released: string[] = [];
  readonly runs: { end(): void }[] = [];
  isClosed = false;
  /** Creations fail while this is set. */
  failure: Error | undefined;

  async createSession(_: Uint8Array, options: SessionOptions = {}): Promise<Session> {
    const key = options.logId!;
    this.made.push(key);
    await sleep(5);
    if (this.failure !== undefined) throw this.failure;
    const run = () =>
      new Promise<Record<string, HostTensor>>((resolve) => {
        this.runs.push({ end: () => resolve({}) });
      });
    return {
      inputs: [],
      outputs: [],
      run,
      bind: () => ({ run, release: () => {} }),
      release: async () => void this.released.push(key),
    };
  }

  async deviceMemory(): Promise<never> {
    throw new Fr1Error('DEVICE_UNAVAILABLE', 'a fake');
  }

  async close(): Promise<void> {
    this.isClosed = true;
  }
}

async function openPool(options: SessionPoolOptions = {}) {
  const runtime = new BookRuntime();
  const pool = await SessionPool.open({ openRuntime: async () => runtime, ...options });
  return { pool, runtime };
}

const model = (bytes = 10) => ({ model: new Uint8Array(bytes) });

async function failure(promise: Promise<unknown>): Promise<Error & { code?: string }> {
  return promise.then(
    () => expect.fail('nothing was thrown'),
    (error) => error,
  );
}

/** True when the promise has not settled after all that is due has run. */
async function isWaiting(promise: Promise<unknown>): Promise<boolean> {
  const mark = Symbol();
  return (await Promise.race([promise, sleep(10).then(() => mark)])) === mark;
}

describe('SessionPool.open()', () => {
  it('finds the CPU, with its threads and memory', async () => {
    const { pool } = await openPool();
    expect(pool.devices()).toEqual([
      {
        id: 'cpu',
        provider: 'cpu',
        description: expect.stringMatching(/, 3 threads$/),
        memoryBytes: expect.any(Number),
        threads: 3,
      },
    ]);
    expect(pool.devices()[0]!.memoryBytes).toBeGreaterThan(2 ** 28);
  });

  it('hands the thread count on and tells why the fallback runtime is in use', async () => {
    const openRuntime = vi.fn(async () => new BookRuntime());
    const pool = await SessionPool.open({ threads: 5, openRuntime });
    expect(openRuntime).toHaveBeenCalledExactlyOnceWith({ threads: 5 });
    expect([...pool.fallbackReasons()]).toEqual([['cpu', new Error('a fake')]]);
  });

  it.each([
    ['webgpu:1', /no device "webgpu:1"/, /use webgpu/],
    ['cpuu', /no device "cpuu"/, /did you mean "cpu"/],
  ])('refuses to know the device %s, with a hint', async (id, message, hint) => {
    const expected = {
      code: 'DEVICE_UNAVAILABLE',
      message: expect.stringMatching(message),
      hint: expect.stringMatching(hint),
    };
    expect(await failure(openPool({ devices: [id] }))).toMatchObject(expected);
    const { pool } = await openPool();
    expect(await failure(pool.lease({ device: id }))).toMatchObject(expected);
  });

  it('names the precisions that there are where FR1_CUDA_PRECISION is none of them', async () => {
    vi.stubEnv('FR1_CUDA_PRECISION', 'fp8');
    try {
      const opening = SessionPool.open({ devices: ['cuda'], openRuntime: async () => new BookRuntime() });
      await expect(opening).rejects.toMatchObject({
        message: 'FR1_CUDA_PRECISION is "fp8"',
        hint: 'use float32, tf32, bfloat16',
      });
    } finally {
      vi.unstubAllEnvs();
    }
  });

  it.each(['webgpu', 'cuda:1'])('refuses %s where it cannot be used, and closes the runtime', async (id) => {
    const runtime = new BookRuntime();
    expect(await failure(SessionPool.open({ devices: [id], openRuntime: async () => runtime }))).toMatchObject({
      code: 'DEVICE_UNAVAILABLE',
      message: `the device "${id}" cannot be used: a fake`,
    });
    expect(runtime.isClosed).toBe(true);
  });
});

describe('SessionPool.lease()', () => {
  it('lends the device to one at a time, in the order of asking', async () => {
    const { pool } = await openPool();
    const order: number[] = [];
    const first = await pool.lease();
    const rest = [1, 2, 3].map(async (i) => {
      await using lease = await pool.lease({ device: 'cpu', holder: `stage ${i}` });
      order.push(i);
      expect(lease.device.id).toBe('cpu');
      await sleep(3);
      order.push(i);
    });
    expect(await isWaiting(Promise.race(rest))).toBe(true);
    await first[Symbol.asyncDispose]();
    await Promise.all(rest);
    expect(order).toEqual([1, 1, 2, 2, 3, 3]);
  });

  it('ends the wait with the reason of the signal, and lets the others pass', async () => {
    const { pool } = await openPool();
    const first = await pool.lease();
    const controller = new AbortController();
    const aborted = pool.lease({ signal: controller.signal });
    const next = pool.lease();
    const reason = new Error('no longer wanted');
    controller.abort(reason);
    await expect(aborted).rejects.toBe(reason);
    expect(await isWaiting(next)).toBe(true);
    await first[Symbol.asyncDispose]();
    await (await next)[Symbol.asyncDispose]();
    await expect(pool.lease({ signal: controller.signal })).rejects.toBe(reason);
    await (await pool.lease())[Symbol.asyncDispose]();
  });

  it('keeps a lease whose signal fires after it was given', async () => {
    const { pool } = await openPool();
    const controller = new AbortController();
    await using lease = await pool.lease({ signal: controller.signal });
    controller.abort();
    expect(lease.runtime.name).toBe('worker');
  });

  it('refuses more memory than the device has', async () => {
    const { pool } = await openPool();
    const memoryBytes = pool.devices()[0]!.memoryBytes! + 1;
    const error = await failure(pool.lease({ memoryBytes, holder: 'tapo' }));
    expect(error).toMatchObject({ code: 'DEVICE_MEMORY', message: expect.stringMatching(/^tapo asks for .* GiB/) });
    await (await pool.lease({ memoryBytes: memoryBytes - 1 }))[Symbol.asyncDispose]();
  });

  it('refuses everything after the release, naming the lease', async () => {
    const { pool } = await openPool();
    const lease = await pool.lease({ holder: 'sft' });
    const session = await lease.session('a', () => model());
    await lease[Symbol.asyncDispose]();
    await lease[Symbol.asyncDispose]();
    const expected = { code: 'RUNTIME_RELEASED', message: 'lease 1 of cpu (sft) was used after its release' };
    expect(await failure(lease.session('a', () => model()))).toMatchObject(expected);
    expect(await failure(session.run({}, {}))).toMatchObject(expected);
    expect(() => lease.runtime).toThrow(expect.objectContaining(expected));
  });

  it('waits for running work before it hands the device on', async () => {
    const { pool, runtime } = await openPool();
    const lease = await pool.lease();
    const session = await lease.session('a', () => model());
    const run = session.run({}, {});
    const next = pool.lease();
    const over = lease[Symbol.asyncDispose]();
    expect(await isWaiting(Promise.race([over, next]))).toBe(true);
    runtime.runs[0]!.end();
    await Promise.all([run, over]);
    await (await next)[Symbol.asyncDispose]();
  });

  it('waits for a session that is being made', async () => {
    const { pool, runtime } = await openPool();
    const lease = await pool.lease();
    const asked = failure(lease.session('a', () => model()));
    await lease[Symbol.asyncDispose]();
    expect(runtime.made).toEqual(['a']);
    expect(await asked).toMatchObject({ code: 'RUNTIME_RELEASED' });
  });

  it('takes and gives back what keeps others off the device, also when the wait is aborted', async () => {
    const held: string[] = [];
    const exclusive: SessionPoolOptions['exclusive'] = async ({ candidates: [device] }) => {
      held.push(`take ${device!.id}`);
      await sleep(5);
      return { device: device!, [Symbol.asyncDispose]: async () => void held.push(`give ${device!.id}`) };
    };
    const { pool } = await openPool({ exclusive });
    await (await pool.lease())[Symbol.asyncDispose]();
    const reason = new Error('stop');
    const controller = new AbortController();
    const aborted = pool.lease({ signal: controller.signal });
    controller.abort(reason);
    await expect(aborted).rejects.toBe(reason);
    await (await pool.lease())[Symbol.asyncDispose]();
    expect(held).toEqual(['take cpu', 'give cpu', 'take cpu', 'give cpu', 'take cpu', 'give cpu']);
  });
});

describe('SessionPool.lease() of several devices', () => {
  const devices = ['cpu:0', 'cpu:1'];

  it('lends each to one holder, and whichever is free first to who names none', async () => {
    const { pool } = await openPool({ devices });
    const first = await pool.lease({ holder: 'a' });
    const second = await pool.lease({ holder: 'b' });
    expect([first.device.id, second.device.id]).toEqual(devices);
    const [third, named] = [pool.lease({ holder: 'c' }), pool.lease({ device: 'cpu:0' })];
    expect(await isWaiting(Promise.race([third, named]))).toBe(true);
    await second[Symbol.asyncDispose]();
    expect((await third).device.id).toBe('cpu:1');
    await first[Symbol.asyncDispose]();
    expect((await named).device.id).toBe('cpu:0');
    await pool.close();
  });

  it('lets a request for a free device pass one that waits for another', async () => {
    const { pool } = await openPool({ devices });
    const held = await pool.lease({ device: 'cpu:0' });
    const waiting = pool.lease({ device: 'cpu:0' });
    await using passing = await pool.lease({ device: 'cpu:1' });
    expect(passing.device.id).toBe('cpu:1');
    await held[Symbol.asyncDispose]();
    await (await waiting)[Symbol.asyncDispose]();
  });

  it('takes the one that other processes leave free, and keeps the rest for who comes next', async () => {
    const exclusive: SessionPoolOptions['exclusive'] = async ({ candidates }) => ({
      device: candidates.at(-1)!,
      [Symbol.asyncDispose]: async () => undefined,
    });
    const { pool } = await openPool({ devices, exclusive });
    await using first = await pool.lease();
    await using second = await pool.lease();
    expect([first.device.id, second.device.id]).toEqual(['cpu:1', 'cpu:0']);
  });
});

describe('Lease.session()', () => {
  it('makes a session once for all who ask for its key at the same time', async () => {
    const { pool, runtime } = await openPool();
    await using lease = await pool.lease();
    const create = vi.fn(() => model());
    const sessions = await Promise.all([1, 2, 3].map(() => lease.session('a', create)));
    expect(create).toHaveBeenCalledOnce();
    expect(runtime.made).toEqual(['a']);
    expect(new Set(sessions).size).toBe(3);
  });

  it('keeps a session for the next lease', async () => {
    const { pool, runtime } = await openPool();
    for (let i = 0; i < 3; i++) {
      await using lease = await pool.lease();
      await lease.session('a', () => model());
    }
    expect(runtime.made).toEqual(['a']);
    expect(runtime.released).toEqual([]);
  });

  it('releases the longest unused idle sessions over the number limit', async () => {
    const { pool, runtime } = await openPool({ idleSessions: 2 });
    await using lease = await pool.lease();
    const held = await lease.session('held', () => model());
    for (const key of ['a', 'b', 'a', 'c', 'd']) await (await lease.session(key, () => model())).release();
    expect(runtime.made).toEqual(['held', 'a', 'b', 'c', 'd']);
    expect(runtime.released).toEqual(['b', 'a']);
    await held.release();
    expect(runtime.released).toEqual(['b', 'a', 'c']);
  });

  it('releases idle sessions over the memory limit, and one that alone is over it', async () => {
    const { pool, runtime } = await openPool({ idleBytes: 100 });
    await using lease = await pool.lease();
    for (const [key, bytes] of [
      ['a', 60],
      ['b', 40],
      ['c', 30],
      ['d', 101],
    ] as const) {
      await (await lease.session(key, () => model(bytes))).release();
    }
    expect(runtime.released).toEqual(['a', 'b', 'c', 'd']);
  });

  it('keeps a session that someone else still holds', async () => {
    const { pool, runtime } = await openPool({ idleSessions: 0 });
    await using lease = await pool.lease();
    const first = await lease.session('a', () => model());
    const second = await lease.session('a', () => model());
    await first.release();
    await first.release();
    expect(runtime.released).toEqual([]);
    expect(await failure(first.run({}, {}))).toMatchObject({ code: 'RUNTIME_RELEASED' });
    const run = second.run({}, {});
    runtime.runs[0]!.end();
    await run;
    await second.release();
    expect(runtime.released).toEqual(['a']);
  });

  it('tells a failed creation to all who wait, and tries again for the next', async () => {
    const { pool, runtime } = await openPool();
    await using lease = await pool.lease();
    runtime.failure = new Error('bad graph');
    const asked = [lease.session('a', () => model()), lease.session('a', () => model())];
    expect(await Promise.allSettled(asked)).toEqual([
      { status: 'rejected', reason: runtime.failure },
      { status: 'rejected', reason: runtime.failure },
    ]);
    runtime.failure = undefined;
    await lease.session('a', () => model());
    expect(runtime.made).toEqual(['a', 'a']);
  });

  it('passes on what the maker of the model throws', async () => {
    const { pool } = await openPool();
    await using lease = await pool.lease();
    const mistake = new RangeError('no such layer');
    const asked = lease.session('a', () => {
      throw mistake;
    });
    await expect(asked).rejects.toBe(mistake);
  });
});

describe('SessionPool.close()', () => {
  it('refuses who waits and who comes later, and closes the runtime', async () => {
    const { pool, runtime } = await openPool();
    const lease = await pool.lease();
    const waiting = failure(pool.lease());
    await pool.close();
    await pool.close();
    expect(runtime.isClosed).toBe(true);
    expect(await waiting).toMatchObject({ code: 'RUNTIME_RELEASED', message: 'the session pool is closed' });
    expect(await failure(pool.lease())).toMatchObject({ code: 'RUNTIME_RELEASED' });
    expect(await failure(lease.session('a', () => model()))).toMatchObject({ code: 'RUNTIME_RELEASED' });
  });
});

describe('a pool over onnxruntime', () => {
  it('runs one shared session under two leases in turn', async () => {
    const doubled = onnxModel({
      nodes: [{ op: 'Add', inputs: ['x', 'x'], outputs: ['y'] }],
      inputs: [{ name: 'x', shape: ['N'] }],
      outputs: [{ name: 'y', shape: ['N'] }],
    });
    const create = vi.fn(() => ({ model: doubled }));
    const pool = await SessionPool.open({ threads: 1 });
    const results = await Promise.all(
      [1, 2].map(async (value) => {
        await using lease = await pool.lease();
        const session = await lease.session('doubled', create);
        expect(session.inputs).toEqual([{ name: 'x', dtype: 'float32', shape: [-1] }]);
        const { y } = await session.run({ x: float32([1], Float32Array.of(value)) }, { y: null });
        return y!.data[0];
      }),
    );
    expect(results).toEqual([2, 4]);
    expect(create).toHaveBeenCalledOnce();
    await pool.close();
  });
});
