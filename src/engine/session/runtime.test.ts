/** One suite for both runtimes, and their results compared with each other. */
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { onnxModel } from '../../../test/helpers/onnx-model.ts';
import { type DType, float32, type HostTensor, int64, sizeOf, type TensorData } from '../tensor.ts';
import { openCApiRuntime } from './c-api.ts';
import type { Runtime, Session } from './runtime.ts';
import { openWorkerRuntime } from './worker-runtime.ts';

const matmulModel = onnxModel({
  nodes: [{ op: 'MatMul', inputs: ['a', 'b'], outputs: ['c'], name: 'product' }],
  inputs: [
    { name: 'a', shape: ['M', 'K'] },
    { name: 'b', shape: ['K', 'N'] },
  ],
  outputs: [{ name: 'c', shape: ['M', 'N'] }],
});

const reshapeModel = onnxModel({
  nodes: [{ op: 'Reshape', inputs: ['x', 'shape'], outputs: ['y'], name: 'to_pairs' }],
  inputs: [
    { name: 'x', shape: ['N'] },
    { name: 'shape', dtype: 'int64', shape: [2] },
  ],
  outputs: [{ name: 'y', shape: ['A', 'B'] }],
});

/** m' = 0.9 m + 0.1 g; w' = w - 0.01 m'. */
const optimizerModel = onnxModel({
  nodes: [
    { op: 'Mul', inputs: ['m', 'keep'], outputs: ['kept'] },
    { op: 'Mul', inputs: ['g', 'add'], outputs: ['added'] },
    { op: 'Add', inputs: ['kept', 'added'], outputs: ['m2'] },
    { op: 'Mul', inputs: ['m2', 'rate'], outputs: ['step'] },
    { op: 'Sub', inputs: ['w', 'step'], outputs: ['w2'] },
  ],
  inputs: ['w', 'm', 'g'].map((name) => ({ name, shape: ['N'] })),
  outputs: ['w2', 'm2'].map((name) => ({ name, shape: ['N'] })),
  initializers: {
    keep: float32([1], Float32Array.of(0.9)),
    add: float32([1], Float32Array.of(0.1)),
    rate: float32([1], Float32Array.of(0.01)),
  },
});

const LONG_WIDTH = 768;

/** `count` products with one matrix of [768, 768] in a chain, 0.9 GFLOP each. */
function longModel(count: number): Uint8Array {
  return onnxModel({
    nodes: Array.from({ length: count }, (_, i) => ({
      op: 'MatMul',
      inputs: [i === 0 ? 'x' : `h${i}`, 'w'],
      outputs: [i === count - 1 ? 'y' : `h${i + 1}`],
    })),
    inputs: ['x', 'w'].map((name) => ({ name, shape: [LONG_WIDTH, LONG_WIDTH] })),
    outputs: [{ name: 'y', shape: [LONG_WIDTH, LONG_WIDTH] }],
  });
}

function longFeeds(): Record<string, HostTensor> {
  const n = LONG_WIDTH;
  const x = float32([n, n]);
  const w = float32([n, n]);
  for (let i = 0; i < n * n; i++) {
    x.data[i] = noise(i);
    w.data[i] = noise(i + n * n) * Math.sqrt(3 / n);
  }
  return { x, w };
}

/** A fixed number in [-1, 1). */
function noise(index: number): number {
  const x = Math.sin(index * 12.9898 + 78.233) * 43758.5453;
  return 2 * (x - Math.floor(x)) - 1;
}

function noiseTensor(shape: readonly number[], seed: number): HostTensor<'float32'> {
  return float32(
    shape,
    Float32Array.from({ length: sizeOf(shape) }, (_, i) => noise(i + seed * 7919)),
  );
}

function identityModel(dtype: DType): Uint8Array {
  return onnxModel({
    nodes: [{ op: 'Identity', inputs: ['x'], outputs: ['y'] }],
    inputs: [{ name: 'x', dtype, shape: ['N'] }],
    outputs: [{ name: 'y', dtype, shape: ['N'] }],
  });
}

const SAMPLES: Record<DType, TensorData> = {
  float32: Float32Array.of(1.5, -0, Number.NaN, 3.4e38, 1e-45),
  float16: Uint16Array.of(0x3c00, 0x8000, 0x7e00, 0x7bff, 0x0001),
  bfloat16: Uint16Array.of(0x3f80, 0x8000, 0x7fc0, 0x7f7f, 0x0001),
  int32: Int32Array.of(1, -1, 0, 2 ** 31 - 1, -(2 ** 31)),
  int64: BigInt64Array.of(1n, -1n, 0n, 2n ** 62n, -(2n ** 62n)),
  bool: Uint8Array.of(1, 0, 0, 1, 1),
};

/** The runtimes, with the dtypes that inputs and outputs may have. */
const RUNTIMES = [
  { name: 'c-api', open: openCApiRuntime, dtypes: Object.keys(SAMPLES) as DType[] },
  { name: 'worker', open: openWorkerRuntime, dtypes: Object.keys(SAMPLES).filter((d) => d !== 'bfloat16') as DType[] },
] as const;

describe.each(RUNTIMES)('$name runtime', ({ name, open, dtypes }) => {
  let runtime: Runtime;
  let folder: string;

  beforeAll(async () => {
    runtime = await open({ threads: 2 });
    folder = await mkdtemp(path.join(tmpdir(), 'fr1-runtime-'));
  });

  afterAll(async () => {
    await runtime.close();
    await rm(folder, { recursive: true });
  });

  async function withSession<T>(model: Uint8Array, use: (session: Session) => Promise<T>): Promise<T> {
    const session = await runtime.createSession(model, { logId: 'under-test' });
    try {
      return await use(session);
    } finally {
      await session.release();
    }
  }

  it('says its name, version and threads', () => {
    expect(runtime.name).toBe(name);
    expect(runtime.version).toMatch(/^1\.\d+\.\d+/);
    expect(runtime.threads).toBe(2);
  });

  it('declares inputs and outputs with -1 for symbolic dimensions', () =>
    withSession(reshapeModel, async (session) => {
      expect(session.inputs).toEqual([
        { name: 'x', dtype: 'float32', shape: [-1] },
        { name: 'shape', dtype: 'int64', shape: [2] },
      ]);
      expect(session.outputs).toEqual([{ name: 'y', dtype: 'float32', shape: [-1, -1] }]);
    }));

  it('runs one session with several shapes', () =>
    withSession(matmulModel, async (session) => {
      for (const [m, k, n] of [
        [1, 2, 1],
        [3, 5, 4],
        [17, 1, 9],
      ] as const) {
        const a = noiseTensor([m, k], 1);
        const b = noiseTensor([k, n], 2);
        const { c } = await session.run({ a, b }, { c: null });
        expect(c!.shape).toEqual([m, n]);
        for (let row = 0; row < m; row++) {
          for (let col = 0; col < n; col++) {
            let sum = 0;
            for (let i = 0; i < k; i++) sum += a.data[row * k + i]! * b.data[i * n + col]!;
            expect(c!.data[row * n + col]).toBeCloseTo(sum, 5);
          }
        }
      }
    }));

  it('repeats a bound run with the elements that its feeds have by then', () =>
    withSession(matmulModel, async (session) => {
      const a = float32([1, 2], Float32Array.of(1, 2));
      const b = float32([2, 1], Float32Array.of(3, 4));
      const c = float32([1, 1]);
      const intoGiven = session.bind({ a, b }, { c });
      const intoFresh = session.bind({ a, b }, { c: null });
      const fresh: number[] = [];
      for (const factor of [1, 10, -2]) {
        a.data.set([factor, 2 * factor]);
        expect((await intoGiven.run())['c']).toBe(c);
        expect(c.data[0]).toBe(11 * factor);
        fresh.push(Number((await intoFresh.run())['c']!.data[0]));
      }
      expect(fresh).toEqual([11, 110, -22]);
      intoGiven.release();
      intoGiven.release();
      intoFresh.release();
    }));

  it('lets the event loop have its turns while a brief run is repeated, and an abort among them ends it', () =>
    withSession(matmulModel, async (session) => {
      const bound = session.bind({ a: float32([1, 2]), b: float32([2, 1]) }, { c: float32([1, 1]) });
      const abort = new AbortController();
      const reason = new Error('enough');
      setTimeout(() => abort.abort(reason), 60);
      const repeat = async () => {
        for (const end = performance.now() + 5000; performance.now() < end; ) await bound.run({ signal: abort.signal });
      };
      expect(await failure(repeat())).toBe(reason);
      bound.release();
    }));

  it('keeps the failure of a run that is repeated apart from the next run', () =>
    withSession(reshapeModel, async (session) => {
      const shape = { dtype: 'int64' as const, shape: [2], data: BigInt64Array.of(2n, 2n) };
      const bound = session.bind({ x: float32([4], Float32Array.of(1, 2, 3, 4)), shape }, { y: null });
      for (const [rows, columns] of [
        [2, 2],
        [1, 4],
        [3, 3],
        [4, 1],
        [3, 3],
        [2, 2],
      ] as const) {
        shape.data.set([BigInt(rows), BigInt(columns)]);
        if (rows * columns === 4) expect((await bound.run())['y']!.shape).toEqual([rows, columns]);
        else expect(await failure(bound.run())).toMatchObject({ code: 'RUNTIME_RUN_FAILED' });
      }
      bound.release();
    }));

  it('checks what a bound run is given before it runs, and refuses it after the release of the session', async () => {
    const session = await runtime.createSession(matmulModel, { logId: 'bound' });
    const a = float32([1, 2]);
    expect(() => session.bind({ a }, { c: null })).toThrow(/input "b"/);
    const bound = session.bind({ a, b: float32([2, 1]) }, { c: null });
    await session.release();
    expect(await failure(bound.run())).toMatchObject({ code: 'RUNTIME_RELEASED' });
    bound.release();
  });

  it('writes the profile of a session into the folder FR1_PROFILE', async () => {
    const profiles = path.join(folder, 'profiles');
    vi.stubEnv('FR1_PROFILE', profiles);
    try {
      await withSession(identityModel('float32'), (session) => session.run({ x: float32([2]) }, { y: null }));
    } finally {
      vi.unstubAllEnvs();
    }
    const files = await readdir(profiles);
    expect(files).toEqual([expect.stringMatching(/^under-test.*\.json$/)]);
    const events = JSON.parse(await readFile(path.join(profiles, files[0]!), 'utf8')) as { name: string }[];
    expect(events.map((event) => event.name)).toContain('model_run');
  });

  it('takes and gives tensors without elements', () =>
    withSession(identityModel('float32'), async (session) => {
      const given = float32([0]);
      const result = await session.run({ x: float32([0]) }, { y: null });
      expect(result).toEqual({ y: given });
      expect((await session.run({ x: float32([0]) }, { y: given }))['y']).toBe(given);
    }));

  it.each(dtypes)('passes %s through bit by bit, fresh and in place', (dtype) =>
    withSession(identityModel(dtype), async (session) => {
      const data = SAMPLES[dtype];
      const x = { dtype, shape: [data.length], data } as HostTensor;
      const y = {
        dtype,
        shape: [data.length],
        data: new (data.constructor as Float32ArrayConstructor)(data.length),
      } as HostTensor;
      const fresh = await session.run({ x }, { y: null });
      const placed = await session.run({ x }, { y });
      expect(placed['y']).toBe(y);
      expect(bytesOf(y.data)).toEqual(bytesOf(data));
      expect(fresh['y']!.data.constructor).toBe(data.constructor);
      expect(bytesOf(fresh['y']!.data)).toEqual(bytesOf(data));
    }),
  );

  it.each(dtypes)('reads and writes %s views with a byte offset and leaves their surroundings alone', (dtype) =>
    withSession(identityModel(dtype), async (session) => {
      const sample = SAMPLES[dtype] as Float32Array;
      const make = sample.constructor as Float32ArrayConstructor;
      const source = new make(sample.length + 7);
      source.set(sample, 3);
      const target = new make(sample.length + 9);
      const x = { dtype, shape: [sample.length], data: source.subarray(3, 3 + sample.length) } as HostTensor;
      const y = { dtype, shape: [sample.length], data: target.subarray(5, 5 + sample.length) } as HostTensor;
      await session.run({ x }, { y });
      const expected = new make(sample.length + 9);
      expected.set(sample, 5);
      expect(bytesOf(target)).toEqual(bytesOf(expected));
    }),
  );

  it('updates optimizer state in place over several steps, exactly as float32 arithmetic does', () =>
    withSession(optimizerModel, async (session) => {
      const size = 10_000;
      const w = noiseTensor([size], 3);
      const m = float32([size]);
      const expectedW = w.data.slice();
      const expectedM = m.data.slice();
      const f = Math.fround;
      for (let step = 0; step < 5; step++) {
        const g = noiseTensor([size], 10 + step);
        await session.run({ w, m, g }, { w2: w, m2: m });
        for (let i = 0; i < size; i++) {
          expectedM[i] = f(f(expectedM[i]! * f(0.9)) + f(g.data[i]! * f(0.1)));
          expectedW[i] = f(expectedW[i]! - f(expectedM[i]! * f(0.01)));
        }
      }
      expect(bytesOf(m.data)).toEqual(bytesOf(expectedM));
      expect(bytesOf(w.data)).toEqual(bytesOf(expectedW));
    }));

  it('gives the same bits for denormal numbers in every run', () =>
    withSession(optimizerModel, async (session) => {
      const size = 1 << 17;
      const [w, m, g] = [float32([size]), float32([size]), float32([size])];
      g.data.fill(1e-38);
      for (let i = 0; i < 8; i++) {
        const { m2 } = await session.run({ w, m, g }, { m2: null });
        expect(new Set(m2!.data as Float32Array)).toEqual(
          new Set([Math.fround(Math.fround(1e-38) * Math.fround(0.1))]),
        );
        await sleep(1);
      }
    }));

  it('reads initialisers from a byte range of a file beside the model', async () => {
    const bytes = new Uint8Array(3 + 8);
    bytes.set(new Uint8Array(Float32Array.of(7, 8).buffer), 3);
    await writeFile(path.join(folder, 'weights.bin'), bytes);
    const model = onnxModel({
      nodes: [{ op: 'Add', inputs: ['x', 'w'], outputs: ['y'] }],
      inputs: [{ name: 'x', shape: [2] }],
      outputs: [{ name: 'y', shape: [2] }],
      external: { w: { dtype: 'float32', shape: [2], file: 'weights.bin', offset: 3, bytes: 8 } },
    });
    const session = await runtime.createSession(model, { externalDataFolder: folder });
    const { y } = await session.run({ x: float32([2], Float32Array.of(1, 2)) }, { y: null });
    expect(y!.data).toEqual(Float32Array.of(8, 10));
    await session.release();
  });

  describe('refuses', () => {
    const a = float32([2, 3]);
    const b = float32([3, 2]);

    it.each([
      ['a missing feed', { a }, { c: null }, /input "b" \(float32 \[\?, \?\]\) is missing/],
      ['an unknown feed', { a, b, d: b }, { c: null }, /no input "d"/],
      ['a wrong dtype', { a, b: int64([3, 2], [1, 2, 3, 4, 5, 6]) }, { c: null }, /"b" takes float32, not int64/],
      ['a wrong rank', { a, b: float32([6]) }, { c: null }, /"b" has shape \[\?, \?\], not \[6\]/],
      ['too little data', { a, b: float32([3, 2], new Float32Array(5)) }, { c: null }, /6 elements, not 5/],
      ['an unknown output', { a, b }, { y: null }, /no output "y"/],
      ['no output at all', { a, b }, {}, /no output is asked for/],
      ['an output of a wrong dtype', { a, b }, { c: int64([2, 2], [0, 0, 0, 0]) }, /output "c" takes float32/],
    ] as const)('%s', (_, feeds, fetches, message) =>
      withSession(matmulModel, async (session) => {
        const error = await failure(session.run(feeds as Record<string, HostTensor>, fetches));
        expect(error).toMatchObject({ code: 'RUNTIME_FEED_INVALID', message: expect.stringMatching(message) });
        expect(error.message).toContain('session "under-test"');
      }),
    );

    it('a fixed dimension of another size', () =>
      withSession(reshapeModel, async (session) => {
        const feeds = { x: float32([4]), shape: int64([3], [2, 2, 1]) };
        expect(await failure(session.run(feeds, { y: null }))).toMatchObject({
          code: 'RUNTIME_FEED_INVALID',
          message: expect.stringContaining('input "shape" has shape [2], not [3]'),
        });
      }));

    it('data of another array type', () =>
      withSession(identityModel('float32'), async (session) => {
        const x = { dtype: 'float32', shape: [2], data: new Float64Array(2) } as unknown as HostTensor;
        expect(await failure(session.run({ x }, { y: null }))).toMatchObject({
          code: 'RUNTIME_FEED_INVALID',
          message: expect.stringContaining('needs Float32Array data, not Float64Array'),
        });
      }));

    it('bytes that are no model', async () => {
      const error = await failure(runtime.createSession(Uint8Array.of(1, 2, 3), { logId: 'broken' }));
      expect(error).toMatchObject({ code: 'RUNTIME_SESSION_FAILED', message: expect.stringContaining('"broken"') });
    });

    it('a device that does not exist', async () => {
      const error = await failure(runtime.createSession(matmulModel, { provider: 'cuda', deviceIndex: 4096 }));
      expect(error).toMatchObject({ code: 'DEVICE_UNAVAILABLE' });
    });
  });

  it('names the node in which a run fails, and goes on working', () =>
    withSession(reshapeModel, async (session) => {
      const x = float32([4], Float32Array.of(1, 2, 3, 4));
      const error = await failure(session.run({ x, shape: int64([2], [3, 2]) }, { y: null }));
      expect(error.code).toBe('RUNTIME_RUN_FAILED');
      expect(error.message).toContain('session "under-test", node "to_pairs" (Reshape)');
      const { y } = await session.run({ x, shape: int64([2], [2, 2]) }, { y: null });
      expect(y).toEqual({ ...x, shape: [2, 2] });
    }));

  it('fails when a given output has another shape than the result', () =>
    withSession(reshapeModel, async (session) => {
      const feeds = { x: float32([4]), shape: int64([2], [2, 2]) };
      expect(await failure(session.run(feeds, { y: float32([1, 2]) }))).toMatchObject({ code: 'RUNTIME_RUN_FAILED' });
    }));

  it('queues runs of one session and keeps their results apart', () =>
    withSession(identityModel('float32'), async (session) => {
      const results = await Promise.all(
        Array.from({ length: 20 }, (_, i) => session.run({ x: float32([1], Float32Array.of(i)) }, { y: null })),
      );
      expect(results.map(({ y }) => y!.data[0])).toEqual(Array.from({ length: 20 }, (_, i) => i));
    }));

  it('runs several sessions side by side', async () => {
    const sessions = await Promise.all(Array.from({ length: 6 }, () => runtime.createSession(identityModel('int32'))));
    const results = await Promise.all(
      sessions.map((session, i) =>
        session.run({ x: { dtype: 'int32', shape: [1], data: Int32Array.of(i) } }, { y: null }),
      ),
    );
    expect(results.map(({ y }) => y!.data[0])).toEqual([0, 1, 2, 3, 4, 5]);
    await Promise.all(sessions.map((session) => session.release()));
  });

  it('rejects with the reason when the signal has fired before the run', () =>
    withSession(identityModel('float32'), async (session) => {
      const reason = new Error('stopped early');
      const run = session.run({ x: float32([1]) }, { y: null }, { signal: AbortSignal.abort(reason) });
      await expect(run).rejects.toBe(reason);
    }));

  it('rejects within 200 ms when a long run is aborted, also for runs that wait', () =>
    withSession(longModel(400), async (session) => {
      const feeds = longFeeds();
      const controller = new AbortController();
      const reason = new Error('enough');
      const run = session.run(feeds, { y: null }, { signal: controller.signal });
      const queued = session.run(feeds, { y: null }, { signal: controller.signal });
      await sleep(50);
      const abortedAt = performance.now();
      controller.abort(reason);
      const rejections = await Promise.allSettled([run, queued]);
      expect(performance.now() - abortedAt).toBeLessThan(200);
      expect(rejections).toEqual([
        { status: 'rejected', reason },
        { status: 'rejected', reason },
      ]);
    }));

  it('works again after an aborted run', () =>
    withSession(longModel(40), async (session) => {
      const feeds = longFeeds();
      const expected = await session.run(feeds, { y: null });
      const controller = new AbortController();
      const aborted = session.run(feeds, { y: null }, { signal: controller.signal });
      await sleep(20);
      controller.abort(new Error('once'));
      await expect(aborted).rejects.toThrow('once');
      const again = await session.run(feeds, { y: null });
      expect(Buffer.compare(bytesOf(again['y']!.data), bytesOf(expected['y']!.data))).toBe(0);
    }));

  it('keeps the event loop alive during a long run', () =>
    withSession(longModel(300), async (session) => {
      const feeds = longFeeds();
      let last = performance.now();
      let longestGap = 0;
      let ticks = 0;
      const timer = setInterval(() => {
        const now = performance.now();
        longestGap = Math.max(longestGap, now - last);
        last = now;
        ticks++;
      }, 5);
      const startedAt = performance.now();
      while (performance.now() - startedAt < 500) await session.run(feeds, { y: null });
      const runMs = performance.now() - startedAt;
      clearInterval(timer);
      expect(ticks).toBeGreaterThan(runMs / 50);
      // A blocking run would stop the loop for all of its time; a machine that others use may add a pause of its own.
      expect(longestGap).toBeLessThan(runMs / 2);
    }));

  it('ends a running run before it releases the session, and refuses runs after that', async () => {
    const session = await runtime.createSession(longModel(20), { logId: 'short-lived' });
    const feeds = longFeeds();
    const order: string[] = [];
    const run = session.run(feeds, { y: null }).then(({ y }) => {
      order.push('run');
      return y;
    });
    const released = session.release().then(() => order.push('release'));
    const error = await failure(session.run(feeds, { y: null }));
    expect(error).toMatchObject({ code: 'RUNTIME_RELEASED', message: expect.stringContaining('"short-lived"') });
    expect((await run)!.shape).toEqual([LONG_WIDTH, LONG_WIDTH]);
    await released;
    expect(order).toEqual(['run', 'release']);
    await session.release();
  });

  it('releases its sessions when it is closed', async () => {
    const other = await open({ threads: 1 });
    const session = await other.createSession(matmulModel);
    await other.close();
    expect(await failure(session.run({}, {}))).toMatchObject({ code: 'RUNTIME_RELEASED' });
    expect(await failure(other.createSession(matmulModel))).toMatchObject({ code: 'RUNTIME_RELEASED' });
    await other.close();
  });

  it('does not leak over 2,000 runs', () =>
    withSession(identityModel('float32'), async (session) => {
      const x = noiseTensor([2500], 1);
      const runs = async (count: number) => {
        for (let i = 0; i < count; i++) await session.run({ x }, { y: null });
        return process.memoryUsage().rss;
      };
      const before = await runs(300);
      const after = await runs(2000);
      expect(after - before).toBeLessThan(50e6);
    }));
});

describe('both runtimes', () => {
  it('give the same bits for a chain of matmuls', async () => {
    const results: Uint8Array[] = [];
    for (const { open } of RUNTIMES) {
      const runtime = await open({ threads: 2 });
      const session = await runtime.createSession(longModel(5));
      results.push(bytesOf((await session.run(longFeeds(), { y: null }))['y']!.data));
      await runtime.close();
    }
    expect(results[0]!.length).toBe(4 * LONG_WIDTH ** 2);
    expect(Buffer.compare(results[0]!, results[1]!)).toBe(0);
  });
});

function bytesOf(data: TensorData): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

async function failure(promise: Promise<unknown>): Promise<Error & { code?: string }> {
  return promise.then(
    () => expect.fail('nothing was thrown'),
    (error) => error,
  );
}

describe('worker runtime', () => {
  it('says what to do about weights in bfloat16, which it cannot take', async () => {
    const runtime = await openWorkerRuntime({ threads: 1 });
    await expect(runtime.createSession(identityModel('bfloat16'))).rejects.toMatchObject({
      code: 'RUNTIME_SESSION_FAILED',
      hint: expect.stringContaining('unset FR1_RUNTIME'),
    });
    await runtime.close();
  });
});
