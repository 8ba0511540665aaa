/**
 * The fallback runtime: the onnxruntime-node package in one worker thread.
 *
 * Differences from the C API runtime:
 * - Feeds are copied before a run and results after it, so it is slower where weights are fed.
 * - All sessions share the one thread: runs are one after the other.
 * - onnxruntime-node cannot end a run. An abort rejects at once, leaves the given fetches untouched and lets the run go
 *   on to its end in the worker; the next run starts after that.
 * - bfloat16 inputs and outputs are refused by onnxruntime-node when the session is made.
 */
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { Fr1Error } from '../../errors/fr1-error.ts';
import {
  BYTES_PER_ELEMENT,
  type DType,
  type HostTensor,
  isHostTensor,
  type Tensor,
  type TensorData,
} from '../tensor.ts';
import { checkValues, runFailed, tensorOver } from './check-values.ts';
import type { BoundRun, RunOptions, Runtime, Session, SessionOptions, ValueInfo } from './runtime.ts';
import { selfTest } from './self-test.ts';
import { configEntries, LOG_SEVERITY, profilePrefix } from './session-settings.ts';
import { Turns } from './turns.ts';
import {
  type WireCreated,
  type WireReply,
  type WireRequest,
  type WireTensor,
  type WireValue,
  WORKER_BODY,
} from './worker-body.ts';

export interface WorkerRuntimeOptions {
  /** @default the CPUs that this process may use */
  readonly threads?: number | undefined;
  /** Why this is not the C API runtime. */
  readonly fallbackReason?: Fr1Error | undefined;
}

/**
 * A runtime in a worker thread of its own, after a self-test.
 *
 * @throws RUNTIME_UNAVAILABLE when onnxruntime-node cannot be loaded
 */
export async function openWorkerRuntime(options: WorkerRuntimeOptions = {}): Promise<Runtime> {
  const require = createRequire(import.meta.url);
  const { version } = require('onnxruntime-node/package.json') as { version: string };
  const worker = new WorkerChannel(require.resolve('onnxruntime-node'));
  const runtime = new WorkerRuntime(worker, version, options);
  try {
    await selfTest(runtime);
  } catch (error) {
    await runtime.close();
    throw new Fr1Error('RUNTIME_UNAVAILABLE', `onnxruntime-node cannot be used: ${(error as Error).message}`, {
      cause: error,
    });
  }
  return runtime;
}

class WorkerRuntime implements Runtime {
  readonly name = 'worker';
  readonly version: string;
  readonly threads: number;
  readonly fallbackReason: Fr1Error | undefined;
  readonly #worker: WorkerChannel;
  readonly #sessions = new Set<WorkerSession>();
  #closed: Promise<void> | undefined;

  constructor(worker: WorkerChannel, version: string, { threads, fallbackReason }: WorkerRuntimeOptions) {
    this.#worker = worker;
    this.version = version;
    this.threads = threads ?? availableParallelism();
    this.fallbackReason = fallbackReason;
  }

  async createSession(model: Uint8Array, options: SessionOptions = {}): Promise<Session> {
    if (this.#closed !== undefined) throw new Fr1Error('RUNTIME_RELEASED', 'the runtime is closed');
    const name = options.logId ?? 'session';
    if (options.provider !== undefined && options.provider !== 'cpu') {
      throw cpuOnly(options.provider);
    }
    const profile = profilePrefix(name);
    const native = {
      executionProviders: ['cpu'],
      intraOpNumThreads: options.threads ?? this.threads,
      interOpNumThreads: 1,
      enableMemPattern: false,
      enableCpuMemArena: options.keepsMemory ?? true,
      graphOptimizationLevel: options.graphOptimization ?? 'all',
      logId: name,
      logSeverityLevel: LOG_SEVERITY,
      ...(profile === null ? {} : { enableProfiling: true, profileFilePrefix: profile }),
      extra: nested(configEntries(options)),
    };
    let created: WireCreated;
    try {
      created = (await this.#worker.request({ op: 'create', model: model.slice(), options: native })) as WireCreated;
    } catch (error) {
      const { message } = error as Error;
      throw new Fr1Error('RUNTIME_SESSION_FAILED', `session "${name}": ${message}`, {
        cause: error,
        ...(BFLOAT16_REFUSED.test(message) && { hint: BFLOAT16_HINT }),
      });
    }
    try {
      const session = new WorkerSession(this.#worker, name, created, (ended) => this.#sessions.delete(ended));
      this.#sessions.add(session);
      return session;
    } catch (error) {
      await this.#worker.request({ op: 'release', session: created.session });
      throw error;
    }
  }

  async deviceMemory(provider: string): Promise<never> {
    throw cpuOnly(provider);
  }

  close(): Promise<void> {
    this.#closed ??= Promise.all([...this.#sessions].map((session) => session.release())).then(() =>
      this.#worker.close(),
    );
    return this.#closed;
  }
}

/** What onnxruntime-node says of a bfloat16 input or output: 16 is that type's number in ONNX. */
const BFLOAT16_REFUSED = /Unsupported data type: 16\b/;
const BFLOAT16_HINT =
  'the worker runtime takes no weights in bfloat16: unset FR1_RUNTIME and see what `fr1 doctor` says of koffi, or ' +
  'write the model in float32 with a stage `uses: export` and `dtype: float32`';

function cpuOnly(provider: string): Fr1Error {
  return new Fr1Error(
    'DEVICE_UNAVAILABLE',
    `${provider} needs onnxruntime's C API, and the runtime in use is the worker`,
    {
      hint: 'unset FR1_RUNTIME, see what `fr1 doctor` says of koffi, or run with --device cpu',
    },
  );
}

class WorkerSession implements Session {
  readonly inputs: readonly ValueInfo[];
  readonly outputs: readonly ValueInfo[];
  readonly #worker: WorkerChannel;
  readonly #name: string;
  readonly #id: number;
  readonly #inputsByName: ReadonlyMap<string, ValueInfo>;
  readonly #outputsByName: ReadonlyMap<string, ValueInfo>;
  readonly #turns = new Turns();
  readonly #onReleased: (session: WorkerSession) => void;
  #released: Promise<void> | undefined;

  constructor(worker: WorkerChannel, name: string, created: WireCreated, onReleased: (session: WorkerSession) => void) {
    this.#worker = worker;
    this.#name = name;
    this.#id = created.session;
    this.#onReleased = onReleased;
    this.inputs = created.inputs.map((value) => valueInfo(name, value));
    this.outputs = created.outputs.map((value) => valueInfo(name, value));
    this.#inputsByName = new Map(this.inputs.map((info) => [info.name, info]));
    this.#outputsByName = new Map(this.outputs.map((info) => [info.name, info]));
  }

  async run(
    feeds: Readonly<Record<string, Tensor>>,
    fetches: Readonly<Record<string, Tensor | null>>,
    options: RunOptions = {},
  ): Promise<Record<string, HostTensor>> {
    return this.bind(feeds, fetches).run(options);
  }

  /** Nothing to prepare but the checks: feeds are copied for every run. */
  bind(feeds: Readonly<Record<string, Tensor>>, fetches: Readonly<Record<string, Tensor | null>>): BoundRun {
    this.#requireAlive();
    checkValues(this.#name, this.#inputsByName, this.#outputsByName, feeds, fetches);
    requireHost(this.#name, feeds);
    requireHost(this.#name, fetches);
    return { run: ({ signal } = {}) => this.#take(feeds, fetches, signal), release: () => {} };
  }

  async #take(
    feeds: Readonly<Record<string, HostTensor>>,
    fetches: Readonly<Record<string, HostTensor | null>>,
    signal: AbortSignal | undefined,
  ): Promise<Record<string, HostTensor>> {
    this.#requireAlive();
    const result = this.#turns.take(() => this.#runNow(feeds, fetches, signal), signal);
    if (signal === undefined) return result;
    return new Promise((resolve, reject) => {
      const onAbort = () => reject(signal.reason);
      signal.addEventListener('abort', onAbort, { once: true });
      result.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
    });
  }

  release(): Promise<void> {
    this.#released ??= this.#turns.idle().then(async () => {
      await this.#worker.request({ op: 'release', session: this.#id });
      this.#onReleased(this);
    });
    return this.#released;
  }

  #requireAlive(): void {
    if (this.#released === undefined) return;
    throw new Fr1Error('RUNTIME_RELEASED', `session "${this.#name}" was used after its release`);
  }

  async #runNow(
    feeds: Readonly<Record<string, HostTensor>>,
    fetches: Readonly<Record<string, HostTensor | null>>,
    signal: AbortSignal | undefined,
  ): Promise<Record<string, HostTensor>> {
    const wired = Object.fromEntries(Object.entries(feeds).map(([name, tensor]) => [name, toWire(tensor)]));
    const names = Object.keys(fetches);
    let results: Record<string, WireTensor>;
    try {
      results = (await this.#worker.request(
        { op: 'run', session: this.#id, feeds: wired, fetches: names },
        Object.values(wired).map(({ buffer }) => buffer),
      )) as Record<string, WireTensor>;
    } catch (error) {
      throw runFailed(this.#name, (error as Error).message);
    }
    // The caller was told at once; what it gave as fetches is its own again.
    if (signal?.aborted) throw signal.reason;
    return Object.fromEntries(names.map((name) => [name, this.#place(name, results[name]!, fetches[name]!)]));
  }

  #place(name: string, result: WireTensor, target: HostTensor | null): HostTensor {
    const fresh = tensorOver(result.dtype as DType, result.shape, result.buffer);
    if (target === null) return fresh;
    if (String(target.shape) !== String(fresh.shape)) {
      throw runFailed(this.#name, `output "${name}" has shape [${fresh.shape}], not [${target.shape}] as given`);
    }
    (target.data as { set(from: TensorData): void }).set(fresh.data);
    return target;
  }
}

function requireHost(
  session: string,
  tensors: Readonly<Record<string, Tensor | null>>,
): asserts tensors is Readonly<Record<string, HostTensor | null>> {
  for (const [name, tensor] of Object.entries(tensors)) {
    if (tensor !== null && !isHostTensor(tensor)) {
      throw new Fr1Error('RUNTIME_FEED_INVALID', `session "${session}": "${name}" is not in host memory`);
    }
  }
}

/** Requests to the worker and their answers; the worker keeps the process alive only while one is open. */
class WorkerChannel {
  readonly #worker: Worker;
  readonly #open = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>();
  #nextId = 1;
  #ended: Error | undefined;

  constructor(packagePath: string) {
    this.#worker = new Worker(WORKER_BODY, { eval: true, workerData: { package: packagePath }, execArgv: [] });
    this.#worker.unref();
    this.#worker.on('message', ({ id, value, error }: WireReply) => {
      const waiting = this.#open.get(id);
      if (waiting === undefined) throw new Error(`the worker answered a request (${id}) that is not open`);
      this.#open.delete(id);
      if (this.#open.size === 0) this.#worker.unref();
      if (error === undefined) waiting.resolve(value);
      else waiting.reject(new Error(error));
    });
    this.#worker.on('error', (error) => this.#end(error as Error));
    this.#worker.on('exit', (code) => this.#end(new Error(`the worker thread ended with code ${code}`)));
  }

  request(message: WireRequest, transfer: ArrayBuffer[] = []): Promise<unknown> {
    if (this.#ended !== undefined) return Promise.reject(this.#ended);
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#open.set(id, { resolve, reject });
      this.#worker.ref();
      this.#worker.postMessage({ ...message, id }, transfer);
    });
  }

  async close(): Promise<void> {
    await this.#worker.terminate();
  }

  #end(error: Error): void {
    this.#ended ??= error;
    for (const { reject } of this.#open.values()) reject(error);
    this.#open.clear();
  }
}

/** `{ 'session.a': '1' }` as `{ session: { a: '1' } }`, the form that onnxruntime-node takes. */
function nested(entries: Readonly<Record<string, string>>): object {
  const root: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(entries)) {
    const path = key.split('.');
    let level = root;
    for (const part of path.slice(0, -1)) level = (level[part] ??= {}) as Record<string, unknown>;
    level[path.at(-1)!] = value;
  }
  return root;
}

function toWire({ dtype, shape, data }: HostTensor): WireTensor {
  const buffer = new ArrayBuffer(data.byteLength);
  new Uint8Array(buffer).set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  return { dtype, shape, buffer };
}

function valueInfo(session: string, { name, dtype, shape }: WireValue): ValueInfo {
  if (!(dtype in BYTES_PER_ELEMENT)) {
    throw new Fr1Error('RUNTIME_SESSION_FAILED', `session "${session}": "${name}" is ${dtype}, not used by the engine`);
  }
  return { name, dtype: dtype as DType, shape: shape.map((dim) => (typeof dim === 'number' && dim >= 0 ? dim : -1)) };
}
