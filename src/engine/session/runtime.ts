/**
 * What the engine asks of an inference runtime: create a session from ONNX bytes, run it without holding up the event loop,
 * cancel it, release it. Two implementations: the C API of onnxruntime's shared library (`c-api.ts`, the main path) and the
 * onnxruntime-node package in a worker thread (`worker-runtime.ts`, the fallback and the oracle in tests).
 */
import type { DeviceTensor, DType, HostTensor, Tensor } from '../tensor.ts';

/** Execution provider of a session. */
export type Provider = 'cpu' | 'webgpu' | 'cuda';

export interface SessionOptions {
  /** @default cpu */
  readonly provider?: Provider;
  /** Which device of the provider. @default 0 */
  readonly deviceIndex?: number;
  /** @default the runtime's thread count */
  readonly threads?: number;
  /**
   * Whether the session keeps the memory of a run for its next one. Where it does not, memory is asked of the system and
   * given back tensor by tensor: slower for small tensors, but sessions that take turns do not add up. @default true
   */
  readonly keepsMemory?: boolean;
  /** Folder that external-data initialisers are relative to. */
  readonly externalDataFolder?: string;
  readonly graphOptimization?: 'disabled' | 'basic' | 'extended' | 'all';
  /** Optimizers of onnxruntime switched off by name, on top of the engine's own list. */
  readonly disabledOptimizers?: readonly string[];
  /** Extra session configuration entries, e.g. `session.disable_prepacking`. */
  readonly config?: Readonly<Record<string, string>>;
  readonly logId?: string;
}

export interface ValueInfo {
  readonly name: string;
  readonly dtype: DType;
  /** Symbolic or unknown dimensions are -1. */
  readonly shape: readonly number[];
}

export interface RunOptions {
  /** Ends the run early; the promise then rejects with the signal's reason. */
  readonly signal?: AbortSignal | undefined;
}

export interface Session {
  readonly inputs: readonly ValueInfo[];
  readonly outputs: readonly ValueInfo[];
  /**
   * Runs the graph. Feeds are not copied: their memory must not change until the promise settles.
   *
   * `fetches` names the wanted outputs; a tensor is filled in place (its memory may be that of a feed where the graph
   * allows it), `null` lets the runtime allocate and returns a fresh tensor. Runs of one session queue up.
   *
   * Device tensors go in and out without a copy. They must be of the session's own device.
   *
   * @returns the fetches in host memory
   * @throws RUNTIME_RUN_FAILED with the node's name when onnxruntime reports a failure
   */
  run(
    feeds: Readonly<Record<string, Tensor>>,
    fetches: Readonly<Record<string, Tensor | null>>,
    options?: RunOptions,
  ): Promise<Record<string, HostTensor>>;
  /**
   * Checks and prepares a run once for many: where a run takes a millisecond or two, preparing it is a good part of that. The
   * memory of the tensors must not move.
   */
  bind(feeds: Readonly<Record<string, Tensor>>, fetches: Readonly<Record<string, Tensor | null>>): BoundRun;
  /** Frees the session's memory once running work has ended. Safe to call twice. */
  release(): Promise<void>;
}

/** A run whose feeds and fetches are settled, to be repeated. */
export interface BoundRun {
  /** As `Session.run`, with the elements that the feeds have now. */
  run(options?: RunOptions): Promise<Record<string, HostTensor>>;
  /** Gives up what was prepared, when no run is under way; the tensors stay as they are. */
  release(): void;
}

/** The memory of one device. Its tensors live until they are released or the runtime is closed. */
export interface DeviceMemory {
  /** A tensor whose elements are undefined until they are written. @throws DEVICE_MEMORY */
  allocate<D extends DType>(dtype: D, shape: readonly number[]): DeviceTensor<D>;
  /**
   * Elements of a tensor from `from` on, as a tensor that shares its memory. Absent where a device knows whole buffers only
   * (WebGPU). Offsets must be multiples of 16 bytes.
   */
  view?<D extends DType>(tensor: DeviceTensor<D>, from: number, shape: readonly number[]): DeviceTensor<D>;
  /** Copies elements to the device, into `to` or into a new tensor. */
  upload<D extends DType>(from: HostTensor<D>, to?: DeviceTensor<D>): Promise<DeviceTensor<D>>;
  /** Copies the first elements of a tensor to the host, as many as `to` has, in whole words of 4 bytes. */
  download<D extends DType>(from: DeviceTensor<D>, to: HostTensor<D>): Promise<void>;
}

export interface Runtime {
  readonly name: 'c-api' | 'worker';
  readonly version: string;
  /** Threads a CPU session uses by default. */
  readonly threads: number;
  /** Why the fallback is in use, where the C API was refused. */
  readonly fallbackReason?: Error | undefined;
  createSession(model: Uint8Array, options?: SessionOptions): Promise<Session>;
  /**
   * The memory of a device, the same for every call.
   *
   * @throws DEVICE_UNAVAILABLE when the device cannot be used, or the runtime reaches the CPU only
   */
  deviceMemory(provider: Exclude<Provider, 'cpu'>, deviceIndex?: number): Promise<DeviceMemory>;
  /** Releases every session. */
  close(): Promise<void>;
}
