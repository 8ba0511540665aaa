/**
 * Lends devices to stages: one lease at a time per device, first come first served, and the sessions of a device shared
 * by content key across leases (session-cache.ts). Other processes are kept off by machine-leases.ts. Knows no stage and
 * no pipeline.
 */
import { cpus } from 'node:os';
import { type OpenRuntimeOptions, openRuntime } from '../engine/session/open-runtime.ts';
import type { BoundRun, DeviceMemory, RunOptions, Runtime, Session, ValueInfo } from '../engine/session/runtime.ts';
import type { HostTensor, Tensor } from '../engine/tensor.ts';
import { Fr1Error } from '../errors/fr1-error.ts';
import { openDeviceMemory, parseDevice } from './devices.ts';
import type { DeviceInfo, Lease, SharedSession } from './lease.ts';
import { LeaseQueue } from './lease-queue.ts';
import type { MachineLease, MachineLeaseRequest } from './machine-leases.ts';
import { processMemory } from './process-memory.ts';
import { ScopedMemory } from './scoped-memory.ts';
import { SessionCache, type SessionSource } from './session-cache.ts';

export interface SessionPoolOptions {
  /** Threads of a CPU session. @default the CPUs that this process may use */
  readonly threads?: number | undefined;
  /** Ids of the devices to offer; who names none gets the one that is free first. @default ['cpu'] */
  readonly devices?: readonly string[] | undefined;
  /** Idle sessions kept per device. @default 8 */
  readonly idleSessions?: number | undefined;
  /** Idle sessions kept per device, in bytes of their models. @default 512 MiB */
  readonly idleBytes?: number | undefined;
  /**
   * Taken with every lease and given back with it: chooses among the devices that are free in this process, and keeps
   * other processes off the one chosen.
   * @default the first that is free, whatever other processes do
   */
  readonly exclusive?: ((request: MachineLeaseRequest) => Promise<MachineLease>) | undefined;
  /** @default openRuntime of the engine */
  readonly openRuntime?: ((options: OpenRuntimeOptions) => Promise<Runtime>) | undefined;
}

export interface LeaseRequest {
  /** @default whichever device of the pool is free first */
  readonly device?: string | undefined;
  /** Most memory that the holder will use. */
  readonly memoryBytes?: number | undefined;
  /** Ends the wait; it then rejects with the signal's reason. */
  readonly signal?: AbortSignal | undefined;
  /** Who asks, for messages. */
  readonly holder?: string | undefined;
}

/**
 * @example
 * const pool = await SessionPool.open();
 * {
 *   await using lease = await pool.lease({ holder: 'sft', signal });
 *   const session = await lease.session(digest, () => ({ model }));
 *   await session.run(feeds, { loss: null }, { signal });
 * }
 * await pool.close();
 */
export class SessionPool {
  readonly #devices: ReadonlyMap<string, PooledDevice>;
  readonly #queue: LeaseQueue<PooledDevice>;
  readonly #exclusive: SessionPoolOptions['exclusive'];
  #leases = 0;
  #closed: Promise<void> | undefined;

  private constructor(devices: readonly PooledDevice[], options: SessionPoolOptions) {
    this.#devices = new Map(devices.map((device) => [device.info.id, device]));
    this.#queue = new LeaseQueue(devices);
    this.#exclusive = options.exclusive;
  }

  /**
   * Finds the devices and opens their runtimes.
   *
   * @throws DEVICE_UNAVAILABLE for a device that is unknown or cannot be used
   * @throws RUNTIME_UNAVAILABLE when onnxruntime cannot be loaded
   */
  static async open(options: SessionPoolOptions = {}): Promise<SessionPool> {
    const ids = new Set(options.devices ?? ['cpu']);
    for (const id of ids) parseDevice(id);
    const runtime = await (options.openRuntime ?? openRuntime)({ threads: options.threads });
    const devices: PooledDevice[] = [];
    try {
      for (const id of ids) {
        const memory = await openDeviceMemory(runtime, id);
        devices.push(new PooledDevice(infoOf(id, runtime), runtime, memory, options));
      }
    } catch (error) {
      await runtime.close();
      throw error;
    }
    return new SessionPool(devices, options);
  }

  /** The devices on offer. */
  devices(): readonly DeviceInfo[] {
    return [...this.#devices.values()].map(({ info }) => info);
  }

  /** Why a device runs on the fallback runtime, where it does. */
  fallbackReasons(): ReadonlyMap<string, Error> {
    const reasons = new Map<string, Error>();
    for (const { info, runtime } of this.#devices.values()) {
      if (runtime.fallbackReason !== undefined) reasons.set(info.id, runtime.fallbackReason);
    }
    return reasons;
  }

  /**
   * Waits for a device and takes it. Give it back by `await using` or `Symbol.asyncDispose`; a holder that asks again
   * for the same device waits for itself.
   *
   * @throws DEVICE_UNAVAILABLE when the pool does not offer the device
   * @throws DEVICE_MEMORY when more memory is asked for than any of the devices has
   * @throws RUNTIME_RELEASED when the pool is closed
   */
  async lease({ device: id, memoryBytes, signal, holder }: LeaseRequest = {}): Promise<Lease> {
    if (this.#closed !== undefined) throw poolClosed();
    const candidates = withMemory(this.#find(id), memoryBytes, holder);
    const number = ++this.#leases;
    const free = await this.#queue.take(candidates, signal);
    let guard: MachineLease | undefined;
    let device = free[0]!;
    try {
      const infos = free.map(({ info }) => info);
      guard = await this.#exclusive?.({ candidates: infos, memoryBytes, signal, holder: holder ?? 'a lease' });
      signal?.throwIfAborted();
      if (this.#closed !== undefined) throw poolClosed();
      if (guard) device = free.find(({ info }) => info.id === guard?.device.id) ?? device;
    } catch (error) {
      try {
        await guard?.[Symbol.asyncDispose]();
      } finally {
        this.#queue.release(free);
      }
      throw error;
    }
    this.#queue.release(free.filter((each) => each !== device));
    const name = `lease ${number} of ${device.info.id}${holder === undefined ? '' : ` (${holder})`}`;
    const lease = new PooledLease(name, device, async () => {
      try {
        await guard?.[Symbol.asyncDispose]();
      } finally {
        device.held = undefined;
        this.#queue.release([device]);
      }
    });
    device.held = lease;
    return lease;
  }

  /** Refuses who waits, waits for running work and releases every session. Safe to call twice. */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    this.#queue.rejectAll(poolClosed());
    const devices = [...this.#devices.values()];
    await Promise.all(devices.map((device) => device.held?.[Symbol.asyncDispose]()));
    // Devices of one kind may share their runtime.
    await Promise.all([...new Set(devices.map(({ runtime }) => runtime))].map((runtime) => runtime.close()));
  }

  #find(id: string | undefined): readonly PooledDevice[] {
    if (id === undefined && this.#devices.size > 0) return [...this.#devices.values()];
    const device = id === undefined ? undefined : this.#devices.get(id);
    if (device !== undefined) return [device];
    if (id !== undefined) parseDevice(id);
    throw new Fr1Error('DEVICE_UNAVAILABLE', `the pool does not offer the device "${id}"`, {
      hint: `it offers ${[...this.#devices.keys()].join(', ') || 'none'}`,
    });
  }
}

/** Those of the devices that have so much memory, or do not say. @throws DEVICE_MEMORY when there is none */
function withMemory(
  devices: readonly PooledDevice[],
  memoryBytes: number | undefined,
  holder: string | undefined,
): readonly PooledDevice[] {
  const fitting = devices.filter(({ info }) => (memoryBytes ?? 0) <= (info.memoryBytes ?? Number.POSITIVE_INFINITY));
  const largest = devices.toSorted((a, b) => (b.info.memoryBytes ?? 0) - (a.info.memoryBytes ?? 0))[0]?.info;
  if (fitting.length > 0 || !largest) return fitting;
  throw new Fr1Error(
    'DEVICE_MEMORY',
    `${holder ?? 'a lease'} asks for ${gib(memoryBytes!)} on ${largest.id}, which has ${gib(largest.memoryBytes!)}`,
    { hint: 'use a smaller batch or model, or another device' },
  );
}

function infoOf(id: string, runtime: Runtime): DeviceInfo {
  const { provider, index } = parseDevice(id);
  if (provider !== 'cpu') {
    const description = provider === 'webgpu' ? 'default WebGPU adapter' : `CUDA device ${index}`;
    return { id, provider, description, threads: runtime.threads };
  }
  const model = cpus()[0]?.model.trim() || 'CPU';
  const description = `${model}, ${runtime.threads} thread${runtime.threads === 1 ? '' : 's'}`;
  return { id, provider, description, memoryBytes: processMemory(), threads: runtime.threads };
}

class PooledDevice {
  readonly info: DeviceInfo;
  readonly runtime: Runtime;
  /** Absent on the CPU. */
  readonly memory: DeviceMemory | undefined;
  readonly sessions: SessionCache;
  held: PooledLease | undefined;

  constructor(info: DeviceInfo, runtime: Runtime, memory: DeviceMemory | undefined, options: SessionPoolOptions) {
    this.info = info;
    this.runtime = runtime;
    this.memory = memory;
    this.sessions = new SessionCache(runtime, {
      idleSessions: options.idleSessions ?? 8,
      idleBytes: options.idleBytes ?? 512 * 2 ** 20,
    });
  }
}

class PooledLease implements Lease {
  readonly device: DeviceInfo;
  readonly name: string;
  readonly #pooled: PooledDevice;
  readonly #memory: ScopedMemory | undefined;
  readonly #asked = new Set<Promise<SharedSession>>();
  readonly #held = new Set<HeldSession>();
  readonly #onOver: () => Promise<void>;
  #over: Promise<void> | undefined;

  constructor(name: string, pooled: PooledDevice, onOver: () => Promise<void>) {
    this.name = name;
    this.device = pooled.info;
    this.#pooled = pooled;
    this.#memory = pooled.memory && new ScopedMemory(pooled.memory);
    this.#onOver = onOver;
  }

  get runtime(): Runtime {
    this.requireAlive();
    return this.#pooled.runtime;
  }

  get memory(): DeviceMemory | undefined {
    this.requireAlive();
    return this.#memory;
  }

  session(key: string, create: () => SessionSource): Promise<SharedSession> {
    const { provider, index: deviceIndex } = parseDevice(this.device.id);
    const asked = this.#hold(key, () => {
      const { model, options } = create();
      return provider === 'cpu'
        ? { model, ...(options && { options }) }
        : { model, options: { ...options, provider, deviceIndex } };
    });
    this.#asked.add(asked);
    return asked.finally(() => this.#asked.delete(asked));
  }

  async #hold(key: string, create: () => SessionSource): Promise<SharedSession> {
    this.requireAlive();
    const { session, handBack } = await this.#pooled.sessions.hold(key, create);
    if (this.#over !== undefined) {
      await handBack();
      this.requireAlive();
    }
    const held = new HeldSession(this, session, async () => {
      this.#held.delete(held);
      await handBack();
    });
    this.#held.add(held);
    return held;
  }

  /** @throws RUNTIME_RELEASED that names the lease */
  requireAlive(): void {
    if (this.#over !== undefined) throw new Fr1Error('RUNTIME_RELEASED', `${this.name} was used after its release`);
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#over ??= Promise.resolve().then(async () => {
      try {
        await Promise.allSettled(this.#asked);
        await Promise.all([...this.#held].map((session) => session.release()));
        this.#memory?.release();
      } finally {
        await this.#onOver();
      }
    });
    return this.#over;
  }
}

/** A shared session in the hands of one lease. */
class HeldSession implements Session {
  readonly inputs: readonly ValueInfo[];
  readonly outputs: readonly ValueInfo[];
  readonly #lease: PooledLease;
  readonly #session: Session;
  readonly #running = new Set<Promise<unknown>>();
  readonly #handBack: () => Promise<void>;
  #released: Promise<void> | undefined;

  constructor(lease: PooledLease, session: Session, handBack: () => Promise<void>) {
    this.#lease = lease;
    this.#session = session;
    this.#handBack = handBack;
    this.inputs = session.inputs;
    this.outputs = session.outputs;
  }

  async run(
    feeds: Readonly<Record<string, Tensor>>,
    fetches: Readonly<Record<string, Tensor | null>>,
    options?: RunOptions,
  ): Promise<Record<string, HostTensor>> {
    this.#requireAlive();
    return this.#followed(this.#session.run(feeds, fetches, options));
  }

  bind(feeds: Readonly<Record<string, Tensor>>, fetches: Readonly<Record<string, Tensor | null>>): BoundRun {
    this.#requireAlive();
    const bound = this.#session.bind(feeds, fetches);
    return {
      run: async (options) => {
        this.#requireAlive();
        return this.#followed(bound.run(options));
      },
      release: () => bound.release(),
    };
  }

  #requireAlive(): void {
    this.#lease.requireAlive();
    if (this.#released !== undefined) {
      throw new Fr1Error('RUNTIME_RELEASED', `a session of ${this.#lease.name} was used after its release`);
    }
  }

  async #followed<T>(run: Promise<T>): Promise<T> {
    this.#running.add(run);
    try {
      return await run;
    } finally {
      this.#running.delete(run);
    }
  }

  release(): Promise<void> {
    this.#released ??= Promise.allSettled(this.#running).then(() => this.#handBack());
    return this.#released;
  }
}

function poolClosed(): Fr1Error {
  return new Fr1Error('RUNTIME_RELEASED', 'the session pool is closed');
}

function gib(bytes: number): string {
  return `${(bytes / 2 ** 30).toFixed(1)} GiB`;
}
