/**
 * The sessions of one device, shared by content key: made once, counted while held, kept when idle until newer ones push
 * them out. Knows no leases.
 */
import type { Runtime, Session, SessionOptions } from '../engine/session/runtime.ts';

export interface SessionCacheOptions {
  /** Idle sessions kept, in number. */
  readonly idleSessions: number;
  /** Idle sessions kept, in bytes of their models. */
  readonly idleBytes: number;
}

/** What a session is made from. */
export interface SessionSource {
  readonly model: Uint8Array;
  readonly options?: SessionOptions;
}

interface Entry {
  readonly key: string;
  readonly session: Promise<Session>;
  bytes: number;
  holders: number;
  /** Grows with every hand-back; the smallest goes first. */
  lastHeld: number;
}

export class SessionCache {
  readonly #runtime: Runtime;
  readonly #options: SessionCacheOptions;
  readonly #entries = new Map<string, Entry>();
  #clock = 0;

  constructor(runtime: Runtime, options: SessionCacheOptions) {
    this.#runtime = runtime;
    this.#options = options;
  }

  /** Keys of the sessions alive, idle ones included. */
  keys(): string[] {
    return [...this.#entries.keys()];
  }

  /**
   * The session for a key, and the way to hand it back (once). `create` is called when there is none; whoever asks
   * meanwhile waits for the same one. A failed creation fails all of them and is forgotten.
   */
  async hold(key: string, create: () => SessionSource): Promise<{ session: Session; handBack(): Promise<void> }> {
    let entry = this.#entries.get(key);
    if (entry === undefined) {
      entry = this.#create(key, create);
      this.#entries.set(key, entry);
    }
    const held = entry;
    held.holders++;
    try {
      return { session: await held.session, handBack: () => this.#handBack(held) };
    } catch (error) {
      if (this.#entries.get(key) === held) this.#entries.delete(key);
      throw error;
    }
  }

  #create(key: string, create: () => SessionSource): Entry {
    const entry: Entry = { key, session: this.#open(key, create, (bytes) => (entry.bytes = bytes)), ...UNUSED };
    return entry;
  }

  async #open(key: string, create: () => SessionSource, onBytes: (bytes: number) => void): Promise<Session> {
    await null; // so that a `create` that throws rejects like any other failure
    const { model, options } = create();
    onBytes(model.byteLength);
    return this.#runtime.createSession(model, { logId: key, ...options });
  }

  async #handBack(entry: Entry): Promise<void> {
    entry.holders--;
    entry.lastHeld = ++this.#clock;
    await this.#evict();
  }

  /** Releases the idle sessions that are over the limits, longest unused first. */
  async #evict(): Promise<void> {
    const idle = [...this.#entries.values()]
      .filter(({ holders }) => holders === 0)
      .sort((a, b) => a.lastHeld - b.lastHeld);
    let bytes = idle.reduce((sum, entry) => sum + entry.bytes, 0);
    const released: Promise<void>[] = [];
    while (idle.length > this.#options.idleSessions || bytes > this.#options.idleBytes) {
      const entry = idle.shift()!;
      bytes -= entry.bytes;
      this.#entries.delete(entry.key);
      released.push(entry.session.then((session) => session.release()));
    }
    await Promise.all(released);
  }
}

const UNUSED = { bytes: 0, holders: 0, lastHeld: 0 } as const;
