/**
 * Lends devices to stages: one lease at a time per device, first come first served, and the sessions of a device shared
 * by content key across leases (session-cache.ts). Knows no stage and no pipeline.
 */
import { cpus, totalmem } from 'node:os';
import { type OpenRuntimeOptions, openRuntime } from '../engine/session/open-runtime.ts';
import type { RunOptions, Runtime, Session, ValueInfo } from '../engine/session/runtime.ts';
import type { HostTensor, Tensor } from '../engine/tensor.ts';
import { Fr1Error } from '../errors/fr1-error.ts';
import { requireUsableDevice } from './devices.ts';
import type { DeviceInfo, Lease, SharedSession } from './lease.ts';
import { SessionCache, type SessionSource } from './session-cache.ts';

export interface SessionPoolOptions {
  /** Threads of a CPU session. @default the CPUs that this process may use */
  readonly threads?: number | undefined;
  /** Ids of the devices to offer; the first is lent to whoever names none. @default ['cpu'] */
  readonly devices?: readonly string[] | undefined;
  /** Idle sessions kept per device. @default 8 */
  readonly idleSessions?: number | undefined;
  /** Idle sessions kept per device, in bytes of their models. @default 512 MiB */
  readonly idleBytes?: number | undefined;
  /**
   * Taken with every lease and given back with it: the place for a lock that keeps other processes off the device.
   * @default none
   */
  readonly exclusive?: ((device: DeviceInfo, signal: AbortSignal | undefined) => Promise<AsyncDisposable>) | undefined;
  /** @default openRuntime of the engine */
  readonly openRuntime?: ((options: OpenRuntimeOptions) => Promise<Runtime>) | undefined;
}

export interface LeaseRequest {
  /** @default the first device of the pool */
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
  #leases = 0;
  #closed: Promise<void> | undefined;

  private constructor(devices: readonly PooledDevice[]) {
    this.#devices = new Map(devices.map((device) => [device.info.id, device]));
  }

  /**
   * Finds the devices and opens their runtimes.
   *
   * @throws DEVICE_UNAVAILABLE for a device that is unknown or cannot be used
   * @throws RUNTIME_UNAVAILABLE when onnxruntime cannot be loaded
   */
  static async open(options: SessionPoolOptions = {}): Promise<SessionPool> {
    const ids = new Set(options.devices ?? ['cpu']);
    for (const id of ids) requireUsableDevice(id);
    const runtime = await (options.openRuntime ?? openRuntime)({ threads: options.threads });
    return new SessionPool([...ids].map((id) => new PooledDevice(cpuInfo(id, runtime), runtime, options)));
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
   * Waits for the device and takes it. Give it back by `await using` or `Symbol.asyncDispose`; a holder that asks again
   * for the same device waits for itself.
   *
   * @throws DEVICE_UNAVAILABLE when the pool does not offer the device
   * @throws DEVICE_MEMORY when more memory is asked for than the device has
   * @throws RUNTIME_RELEASED when the pool is closed
   */
  async lease({ device: id, memoryBytes, signal, holder }: LeaseRequest = {}): Promise<Lease> {
    if (this.#closed !== undefined) throw poolClosed();
    const device = this.#find(id);
    const available = device.info.memoryBytes;
    if (memoryBytes !== undefined && available !== undefined && memoryBytes > available) {
      throw new Fr1Error(
        'DEVICE_MEMORY',
        `${holder ?? 'a lease'} asks for ${gib(memoryBytes)} on ${device.info.id}, which has ${gib(available)}`,
        { hint: 'use a smaller batch or model, or another device' },
      );
    }
    const name = `lease ${++this.#leases} of ${device.info.id}${holder === undefined ? '' : ` (${holder})`}`;
    return device.lend(name, signal);
  }

  /** Refuses who waits, waits for running work and releases every session. Safe to call twice. */
  close(): Promise<void> {
    this.#closed ??= Promise.all([...this.#devices.values()].map((device) => device.close())).then(() => undefined);
    return this.#closed;
  }

  #find(id: string | undefined): PooledDevice {
    const [first] = this.#devices.values();
    const device = id === undefined ? first : this.#devices.get(id);
    if (device !== undefined) return device;
    if (id !== undefined) requireUsableDevice(id);
    throw new Fr1Error('DEVICE_UNAVAILABLE', `the pool does not offer the device "${id}"`, {
      hint: `it offers ${[...this.#devices.keys()].join(', ') || 'none'}`,
    });
  }
}

function cpuInfo(id: string, runtime: Runtime): DeviceInfo {
  const model = cpus()[0]?.model.trim() || 'CPU';
  const description = `${model}, ${runtime.threads} thread${runtime.threads === 1 ? '' : 's'}`;
  return { id, provider: 'cpu', description, memoryBytes: processMemory(), threads: runtime.threads };
}

/** Bytes that this process may use: the machine's memory or the limit set for the process, whichever is less. */
function processMemory(): number {
  const limit = process.constrainedMemory?.() ?? 0;
  return limit > 0 ? Math.min(limit, totalmem()) : totalmem();
}

interface Waiter {
  readonly name: string;
  readonly signal: AbortSignal | undefined;
  resolve(lease: Lease): void;
  reject(reason: unknown): void;
}

class PooledDevice {
  readonly info: DeviceInfo;
  readonly runtime: Runtime;
  readonly sessions: SessionCache;
  readonly #exclusive: SessionPoolOptions['exclusive'];
  readonly #waiting: Waiter[] = [];
  #held: PooledLease | undefined;
  /** True from the moment a waiter's turn has come until its lease is over. */
  #isTaken = false;
  #isClosed = false;

  constructor(info: DeviceInfo, runtime: Runtime, options: SessionPoolOptions) {
    this.info = info;
    this.runtime = runtime;
    this.#exclusive = options.exclusive;
    this.sessions = new SessionCache(runtime, {
      idleSessions: options.idleSessions ?? 8,
      idleBytes: options.idleBytes ?? 512 * 2 ** 20,
    });
  }

  lend(name: string, signal: AbortSignal | undefined): Promise<Lease> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const onAbort = () => {
        const place = this.#waiting.indexOf(waiter);
        if (place !== -1) this.#waiting.splice(place, 1);
        reject(signal!.reason);
      };
      const waiter: Waiter = {
        name,
        signal,
        resolve: (lease) => {
          signal?.removeEventListener('abort', onAbort);
          resolve(lease);
        },
        reject: (reason) => {
          signal?.removeEventListener('abort', onAbort);
          reject(reason);
        },
      };
      signal?.addEventListener('abort', onAbort, { once: true });
      this.#waiting.push(waiter);
      void this.#serve();
    });
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    for (const waiter of this.#waiting.splice(0)) waiter.reject(poolClosed());
    await this.#held?.[Symbol.asyncDispose]();
    await this.runtime.close();
  }

  /** Gives the device to the first who waits, if it is free. */
  async #serve(): Promise<void> {
    if (this.#isTaken) return;
    const waiter = this.#waiting.shift();
    if (waiter === undefined) return;
    this.#isTaken = true;
    let guard: AsyncDisposable | undefined;
    try {
      guard = await this.#exclusive?.(this.info, waiter.signal);
      waiter.signal?.throwIfAborted();
      if (this.#isClosed) throw poolClosed();
    } catch (error) {
      await Promise.resolve(guard?.[Symbol.asyncDispose]()).then(() => waiter.reject(error), waiter.reject);
      this.#free();
      return;
    }
    this.#held = new PooledLease(waiter.name, this, async () => {
      try {
        await guard?.[Symbol.asyncDispose]();
      } finally {
        this.#held = undefined;
        this.#free();
      }
    });
    waiter.resolve(this.#held);
  }

  #free(): void {
    this.#isTaken = false;
    void this.#serve();
  }
}

class PooledLease implements Lease {
  readonly device: DeviceInfo;
  readonly name: string;
  readonly #pooled: PooledDevice;
  readonly #asked = new Set<Promise<SharedSession>>();
  readonly #held = new Set<HeldSession>();
  readonly #onOver: () => Promise<void>;
  #over: Promise<void> | undefined;

  constructor(name: string, pooled: PooledDevice, onOver: () => Promise<void>) {
    this.name = name;
    this.device = pooled.info;
    this.#pooled = pooled;
    this.#onOver = onOver;
  }

  get runtime(): Runtime {
    this.requireAlive();
    return this.#pooled.runtime;
  }

  session(key: string, create: () => SessionSource): Promise<SharedSession> {
    const asked = this.#hold(key, create);
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
    this.#lease.requireAlive();
    if (this.#released !== undefined) {
      throw new Fr1Error('RUNTIME_RELEASED', `a session of ${this.#lease.name} was used after its release`);
    }
    const run = this.#session.run(feeds, fetches, options);
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
