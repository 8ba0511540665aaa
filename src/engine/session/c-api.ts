/**
 * The main runtime: onnxruntime's C API (ort-api.ts).
 *
 * - Runs are on libuv's thread pool, so the event loop goes on; an abort sets the terminate flag, which onnxruntime looks
 *   at between two operators.
 * - A bound run of a few milliseconds is repeated on the thread that asks for it, as long as nothing else runs: two changes of
 *   thread would take a good part of its time. The event loop has its turns in between.
 * - Feeds and given fetches are used where they lie, without a copy. Every buffer is held until its run has ended.
 * - Sessions run side by side, runs of one session one after the other.
 *
 * NOTE: `session.set_denormal_as_zero` stays off. onnxruntime sets that mode on its own pool threads and on the thread
 * that makes the first session, but the calling thread takes its share of the work too, and here that is any thread of
 * libuv's pool: the bits of a result would depend on which one.
 */
import { availableParallelism } from 'node:os';
import type { ErrorCode } from '../../errors/catalogue.ts';
import { Fr1Error } from '../../errors/fr1-error.ts';
import { encodeModel } from '../onnx/proto.ts';
import { type DType, type HostTensor, isHostTensor, type Tensor } from '../tensor.ts';
import { isTurnDue, takeTurn } from '../turn.ts';
import { CApiDeviceMemory, deviceMemoryInfo } from './c-api-memory.ts';
import { byteLengthOf, checkValues, runFailed, tensorOver } from './check-values.ts';
import { appendProvider, type DeviceProvider } from './device-options.ts';
import {
  addressOf,
  callAsync,
  checkStatus,
  copyBytes,
  loadOrtApi,
  type OrtApi,
  outNumber,
  outPointer,
  type Pointer,
  stringAt,
  takeMessage,
} from './ort-api.ts';
import type { BoundRun, DeviceMemory, RunOptions, Runtime, Session, SessionOptions, ValueInfo } from './runtime.ts';
import { selfTest } from './self-test.ts';
import { configEntries, LOG_SEVERITY, OPTIMIZATION_LEVEL, profilePrefix } from './session-settings.ts';
import { Turns } from './turns.ts';

/** Numbers of ONNXTensorElementDataType. */
const ELEMENT_TYPE = {
  float32: 1,
  int32: 6,
  int64: 7,
  bool: 9,
  float16: 10,
  bfloat16: 16,
} as const satisfies Record<DType, number>;

const DTYPE_OF = new Map<number, DType>(Object.entries(ELEMENT_TYPE).map(([dtype, id]) => [id, dtype as DType]));

export interface CApiRuntimeOptions {
  /** @default the CPUs that this process may use */
  readonly threads?: number | undefined;
}

/**
 * A runtime over the C API, after a self-test.
 *
 * @throws RUNTIME_UNAVAILABLE when the library cannot be used on this machine
 */
export async function openCApiRuntime(options: CApiRuntimeOptions = {}): Promise<Runtime> {
  const runtime = new CApiRuntime(loadOrtApi(), options.threads ?? availableParallelism());
  await selfTest(runtime);
  return runtime;
}

class CApiRuntime implements Runtime {
  readonly name = 'c-api';
  readonly version: string;
  readonly threads: number;
  readonly #api: OrtApi;
  readonly #sessions = new Set<CApiSession>();
  readonly #memories = new Map<string, Promise<CApiDeviceMemory>>();
  readonly #memoryInfos = new Map<string, Pointer>();
  #closed = false;

  constructor(api: OrtApi, threads: number) {
    this.#api = api;
    this.version = api.version;
    this.threads = threads;
  }

  createSession(model: Uint8Array, options: SessionOptions = {}): Promise<Session> {
    return this.#createSession(model, options);
  }

  deviceMemory(provider: DeviceProvider, deviceIndex = 0): Promise<DeviceMemory> {
    const key = `${provider}:${deviceIndex}`;
    let memory = this.#memories.get(key);
    if (memory === undefined) {
      memory = this.#createMemory(provider, deviceIndex);
      memory.catch(() => this.#memories.delete(key));
      this.#memories.set(key, memory);
    }
    return memory;
  }

  async #createMemory(provider: DeviceProvider, deviceIndex: number): Promise<CApiDeviceMemory> {
    const copier = await this.#createSession(copyModel(), { provider, deviceIndex, logId: `copy:${provider}` });
    const info = this.#memoryInfo(provider, deviceIndex)!;
    return new CApiDeviceMemory(this.#api, provider, deviceIndex, copier, info);
  }

  /** @returns null for the CPU */
  #memoryInfo(provider: SessionOptions['provider'] = 'cpu', deviceIndex = 0): Pointer | null {
    if (provider === 'cpu') return null;
    const key = `${provider}:${deviceIndex}`;
    const info = this.#memoryInfos.get(key) ?? deviceMemoryInfo(this.#api, provider, deviceIndex);
    this.#memoryInfos.set(key, info);
    return info;
  }

  async #createSession(model: Uint8Array, options: SessionOptions): Promise<CApiSession> {
    if (this.#closed) throw new Fr1Error('RUNTIME_RELEASED', 'the runtime is closed');
    const name = options.logId ?? 'session';
    const memory = this.#memoryInfo(options.provider, options.deviceIndex);
    const handle = await this.#createHandle(model, name, options);
    let session: CApiSession;
    try {
      session = new CApiSession(this.#api, handle, name, memory, (ended) => this.#sessions.delete(ended));
    } catch (error) {
      this.#api.releaseSession(handle);
      throw error;
    }
    this.#sessions.add(session);
    if (this.#closed) {
      await session.release();
      throw new Fr1Error('RUNTIME_RELEASED', 'the runtime was closed while a session was being made');
    }
    return session;
  }

  async close(): Promise<void> {
    this.#closed = true;
    const memories = await Promise.allSettled(this.#memories.values());
    for (const memory of memories) if (memory.status === 'fulfilled') await memory.value.release();
    await Promise.all([...this.#sessions].map((session) => session.release()));
  }

  async #createHandle(model: Uint8Array, name: string, options: SessionOptions): Promise<Pointer> {
    const api = this.#api;
    const code = 'RUNTIME_SESSION_FAILED';
    const what = `session "${name}"`;
    const native = outPointer((out) => api.createSessionOptions(out), code, what);
    try {
      const level = OPTIMIZATION_LEVEL[options.graphOptimization ?? 'all'];
      checkStatus(api.setSessionLogId(native, name), code, what);
      checkStatus(api.setSessionLogSeverityLevel(native, LOG_SEVERITY), code, what);
      checkStatus(api.setSessionGraphOptimizationLevel(native, level), code, what);
      checkStatus(api.setIntraOpNumThreads(native, options.threads ?? this.threads), code, what);
      checkStatus(api.setInterOpNumThreads(native, 1), code, what);
      checkStatus(api.disableMemPattern(native), code, what);
      const profile = profilePrefix(name);
      if (profile !== null) checkStatus(api.enableProfiling(native, profile), code, what);
      if (options.keepsMemory === false) checkStatus(api.disableCpuMemArena(native), code, what);
      for (const [key, value] of Object.entries(configEntries(options))) {
        checkStatus(api.addSessionConfigEntry(native, key, value), code, `${what}, option ${key}`);
      }
      const { provider = 'cpu', deviceIndex = 0 } = options;
      if (provider !== 'cpu') appendProvider(api, native, provider, deviceIndex);
      const out = new BigUint64Array(1);
      const status = await callAsync(api.createSessionFromArray, api.env, model, model.byteLength, native, out);
      checkStatus(status, code, what);
      return out[0]!;
    } finally {
      api.releaseSessionOptions(native);
    }
  }
}

/** What a run is given. */
interface Values {
  /** Its own in the process. */
  readonly number: number;
  readonly inputNames: BigUint64Array;
  readonly inputs: BigUint64Array;
  readonly outputNames: BigUint64Array;
  /** 0 where onnxruntime allocates. */
  readonly outputs: BigUint64Array;
  readonly fetches: readonly (readonly [name: string, Tensor | null])[];
  /** Whether the last run was over soon. */
  isBrief: boolean;
  /** Keeps the memory that the values point to. */
  readonly memory: unknown;
}

/** Terminate flags of the runs under way, so that leaving the process does not wait for them. */
const running = new Set<() => void>();
let exitHookInstalled = false;

/** Longest run that may hold up the event loop. */
const BRIEF_MS = 5;

/** Which bound run ran last: where several take turns, none of them may hold up the others. */
let latest = 0;
let lastNumber = 0;

function endRunsOnExit(): void {
  if (exitHookInstalled) return;
  exitHookInstalled = true;
  process.once('exit', () => {
    for (const terminate of running) terminate();
  });
}

class CApiSession implements Session {
  readonly inputs: readonly ValueInfo[];
  readonly outputs: readonly ValueInfo[];
  readonly #api: OrtApi;
  readonly handle: Pointer;
  readonly #name: string;
  /** Memory of the session's device; null on the CPU. */
  readonly #memory: Pointer | null;
  readonly #inputsByName: ReadonlyMap<string, ValueInfo>;
  readonly #outputsByName: ReadonlyMap<string, ValueInfo>;
  readonly #names = new CStrings();
  readonly #turns = new Turns();
  readonly #onReleased: (session: CApiSession) => void;
  /** Made for the first run, replaced after a run was ended early. */
  #runOptions: Pointer | undefined;
  #released: Promise<void> | undefined;

  constructor(
    api: OrtApi,
    handle: Pointer,
    name: string,
    memory: Pointer | null,
    onReleased: (session: CApiSession) => void,
  ) {
    this.#api = api;
    this.handle = handle;
    this.#name = name;
    this.#memory = memory;
    this.#onReleased = onReleased;
    this.inputs = this.#readValues('input');
    this.outputs = this.#readValues('output');
    this.#inputsByName = new Map(this.inputs.map((info) => [info.name, info]));
    this.#outputsByName = new Map(this.outputs.map((info) => [info.name, info]));
    endRunsOnExit();
  }

  async run(
    feeds: Readonly<Record<string, Tensor>>,
    fetches: Readonly<Record<string, Tensor | null>>,
    options: RunOptions = {},
  ): Promise<Record<string, HostTensor>> {
    const bound = this.bind(feeds, fetches);
    try {
      return await bound.run(options);
    } finally {
      bound.release();
    }
  }

  bind(feeds: Readonly<Record<string, Tensor>>, fetches: Readonly<Record<string, Tensor | null>>): BoundRun {
    this.#requireAlive();
    checkValues(this.#name, this.#inputsByName, this.#outputsByName, feeds, fetches);
    const outputs = Object.entries(fetches);
    const values: Values = {
      number: ++lastNumber,
      inputNames: BigUint64Array.from(this.inputs, ({ name }) => this.#names.address(name)),
      inputs: new BigUint64Array(this.inputs.length),
      outputNames: BigUint64Array.from(outputs, ([name]) => this.#names.address(name)),
      outputs: new BigUint64Array(outputs.length),
      fetches: outputs,
      isBrief: false,
      memory: [feeds, fetches],
    };
    const release = () => {
      for (const list of [values.inputs, values.outputs]) {
        for (const value of list) if (value !== 0n) this.#api.releaseValue(value);
        list.fill(0n);
      }
    };
    try {
      for (const [i, { name }] of this.inputs.entries()) values.inputs[i] = this.#wrap(feeds[name]!, name);
      for (const [i, [name, tensor]] of outputs.entries()) {
        if (tensor !== null) values.outputs[i] = this.#wrap(tensor, name);
      }
    } catch (error) {
      release();
      throw error;
    }
    return {
      run: async ({ signal } = {}) => {
        this.#requireAlive();
        return this.#turns.take(() => this.#runNow(values, signal), signal);
      },
      release,
    };
  }

  release(): Promise<void> {
    this.#released ??= this.#turns.idle().then(async () => {
      if (this.#runOptions !== undefined) this.#api.releaseRunOptions(this.#runOptions);
      await callAsync(this.#api.releaseSession, this.handle);
      this.#onReleased(this);
    });
    return this.#released;
  }

  #requireAlive(): void {
    if (this.#released === undefined) return;
    throw new Fr1Error('RUNTIME_RELEASED', `session "${this.#name}" was used after its release`);
  }

  async #runNow(values: Values, signal: AbortSignal | undefined): Promise<Record<string, HostTensor>> {
    const api = this.#api;
    this.#runOptions ??= outPointer((out) => api.createRunOptions(out), 'RUNTIME_RUN_FAILED', this.#name);
    try {
      await this.#call(this.#runOptions, values, signal);
      const onHost: Record<string, HostTensor> = {};
      for (const [i, [name, tensor]] of values.fetches.entries()) {
        if (tensor === null) onHost[name] = this.#copyOut(values.outputs[i]!, name);
        else if (isHostTensor(tensor)) onHost[name] = tensor;
      }
      return onHost;
    } finally {
      for (const [i, [, tensor]] of values.fetches.entries()) {
        if (tensor !== null || values.outputs[i] === 0n) continue;
        api.releaseValue(values.outputs[i]!);
        values.outputs[i] = 0n;
      }
    }
  }

  async #call(runOptions: Pointer, values: Values, signal: AbortSignal | undefined): Promise<void> {
    const start = performance.now();
    const isAlone = running.size === 0 && latest === values.number;
    latest = values.number;
    if (values.isBrief && isAlone && this.#memory === null) {
      this.#settle(this.#api.run(...this.#arguments(runOptions, values)));
      values.isBrief = performance.now() - start < BRIEF_MS;
      if (isTurnDue()) await takeTurn();
    } else {
      await this.#callOnPool(runOptions, values, signal);
      values.isBrief = performance.now() - start < BRIEF_MS;
    }
  }

  async #callOnPool(runOptions: Pointer, values: Values, signal: AbortSignal | undefined): Promise<void> {
    const api = this.#api;
    let terminated = false;
    const terminate = () => {
      terminated = true;
      checkStatus(api.runOptionsSetTerminate(runOptions), 'RUNTIME_RUN_FAILED', this.#name);
    };
    running.add(terminate);
    signal?.addEventListener('abort', terminate, { once: true });
    try {
      this.#settle(await callAsync(api.run, ...this.#arguments(runOptions, values)), signal);
    } finally {
      signal?.removeEventListener('abort', terminate);
      running.delete(terminate);
      if (terminated) {
        this.#runOptions = undefined;
        api.releaseRunOptions(runOptions);
      }
    }
  }

  #arguments(runOptions: Pointer, { inputNames, inputs, outputNames, outputs }: Values) {
    return [
      this.handle,
      runOptions,
      inputNames,
      inputs,
      inputNames.length,
      outputNames,
      outputNames.length,
      outputs,
    ] as const satisfies unknown[];
  }

  #settle(status: Pointer | null, signal?: AbortSignal): void {
    const message = takeMessage(status);
    if (signal?.aborted) throw signal.reason;
    if (message !== undefined) throw runFailed(this.#name, message);
  }

  /** A value over the memory of a tensor. */
  #wrap(tensor: Tensor, name: string): Pointer {
    const { shape, dtype } = tensor;
    const what = `session "${this.#name}", value "${name}"`;
    const dims = BigInt64Array.from(shape, BigInt);
    const isHost = isHostTensor(tensor);
    const memory = isHost ? this.#api.cpuMemory : this.#memory;
    if (memory === null) throw new Fr1Error('RUNTIME_FEED_INVALID', `${what} is not in host memory`);
    const bytes = isHost ? tensor.data.byteLength : byteLengthOf(dtype, shape);
    const data = isHost ? (bytes === 0 ? EMPTY : tensor.data) : tensor.buffer.handle;
    return outPointer(
      (out) => this.#api.createTensorWithData(memory, data, bytes, dims, dims.length, ELEMENT_TYPE[dtype], out),
      'RUNTIME_RUN_FAILED',
      what,
    );
  }

  /** A fresh tensor with the elements of a value that onnxruntime allocated. */
  #copyOut(value: Pointer, name: string): HostTensor {
    const api = this.#api;
    const code = 'RUNTIME_RUN_FAILED';
    const what = `session "${this.#name}", output "${name}"`;
    const info = outPointer((out) => api.getTensorTypeAndShape(value, out), code, what);
    try {
      const { dtype, shape } = this.#readTensorInfo(info, code, what);
      const bytes = byteLengthOf(dtype, shape);
      if (bytes === 0) return tensorOver(dtype, shape, new ArrayBuffer(0));
      const address = outPointer((out) => api.getTensorMutableData(value, out), code, what);
      return tensorOver(dtype, shape, copyBytes(address, bytes));
    } finally {
      api.releaseTensorTypeAndShapeInfo(info);
    }
  }

  #readValues(kind: 'input' | 'output'): ValueInfo[] {
    const api = this.#api;
    const code = 'RUNTIME_SESSION_FAILED';
    const what = `session "${this.#name}"`;
    const [getCount, getName, getInfo] =
      kind === 'input'
        ? [api.sessionGetInputCount, api.sessionGetInputName, api.sessionGetInputTypeInfo]
        : [api.sessionGetOutputCount, api.sessionGetOutputName, api.sessionGetOutputTypeInfo];
    const count = outNumber((out) => getCount(this.handle, out), code, what);
    return Array.from({ length: count }, (_, i) => {
      const address = outPointer((out) => getName(this.handle, i, api.allocator, out), code, what);
      const name = stringAt(address);
      checkStatus(api.allocatorFree(api.allocator, address), code, what);
      const typeInfo = outPointer((out) => getInfo(this.handle, i, out), code, what);
      try {
        const info = outPointer((out) => api.castTypeInfoToTensorInfo(typeInfo, out), code, what);
        if (info === 0n) throw new Fr1Error(code, `${what}: ${kind} "${name}" is not a tensor`);
        return { name, ...this.#readTensorInfo(info, code, `${what}, ${kind} "${name}"`) };
      } finally {
        api.releaseTypeInfo(typeInfo);
      }
    });
  }

  #readTensorInfo(info: Pointer, code: ErrorCode, what: string): { dtype: DType; shape: number[] } {
    const api = this.#api;
    const type = outNumber((out) => api.getTensorElementType(info, out), code, what);
    const dtype = DTYPE_OF.get(type);
    if (dtype === undefined)
      throw new Fr1Error(code, `${what} has element type ${type}, which the engine does not use`);
    const rank = outNumber((out) => api.getDimensionsCount(info, out), code, what);
    const dims = new BigInt64Array(rank);
    if (rank > 0) checkStatus(api.getDimensions(info, dims, rank), code, what);
    return { dtype, shape: Array.from(dims, Number) };
  }
}

/** y = x over int32 [n]. */
function copyModel(): Uint8Array {
  const value = (name: string) => ({
    name,
    type: { tensorType: { elemType: ELEMENT_TYPE.int32, shape: { dim: [{ dimParam: 'n' }] } } },
  });
  return encodeModel({
    irVersion: 10,
    producerName: 'fr1',
    opsetImport: [{ domain: '', version: 21 }],
    graph: {
      name: 'copy',
      node: [{ input: ['x'], output: ['y'], name: 'copy', opType: 'Identity', domain: '', attribute: [] }],
      initializer: [],
      input: [value('x')],
      output: [value('y')],
    },
  });
}

/** Stands for the memory of a tensor without elements, which has no address of its own. */
const EMPTY = new Uint8Array(16);

/** Zero-terminated copies of names, at addresses that stay. */
class CStrings {
  readonly #known = new Map<string, { bytes: Uint8Array; address: Pointer }>();

  address(text: string): Pointer {
    let entry = this.#known.get(text);
    if (entry === undefined) {
      const bytes = new TextEncoder().encode(`${text}\0`);
      entry = { bytes, address: addressOf(bytes) };
      this.#known.set(text, entry);
    }
    return entry.address;
  }
}
