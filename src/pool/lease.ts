/** A device on loan to one stage: its runtime and the sessions that stages share. */
import type { Provider, Runtime, Session, SessionOptions } from '../engine/session/runtime.ts';

export interface DeviceInfo {
  /** `cpu`, `webgpu`, `cuda:0`, ... */
  readonly id: string;
  readonly provider: Provider;
  readonly description: string;
  readonly memoryBytes?: number;
  /** CPU threads that a session uses. */
  readonly threads: number;
}

export interface Lease extends AsyncDisposable {
  readonly device: DeviceInfo;
  readonly runtime: Runtime;
  /**
   * The session for a content key: made on first use, shared by whoever asks for the same key on the same device, kept
   * after release until the pool needs the memory.
   */
  session(key: string, create: () => { model: Uint8Array; options?: SessionOptions }): Promise<SharedSession>;
}

/** A session held by a lease; `release` gives it back to the pool and does not end it for others. */
export type SharedSession = Session;
