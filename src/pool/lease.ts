/** A device on loan to one stage: its runtime and the sessions that stages share. */
import type { DeviceMemory, Provider, Runtime, Session, SessionOptions } from '../engine/session/runtime.ts';

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
  /** Memory of the device, freed when the lease ends; undefined on the CPU. */
  readonly memory: DeviceMemory | undefined;
  /**
   * The session for a content key: made on first use, shared by whoever asks for the same key on the same device, kept
   * after release until the pool needs the memory.
   */
  session(key: string, create: () => { model: Uint8Array; options?: SessionOptions }): Promise<SharedSession>;
}

/** A session held by a lease; `release` gives it back to the pool and does not end it for others. */
export type SharedSession = Session;

/**
 * Variables that show a child process the leased device and hide the other GPUs. A GPU is its child's device 0.
 *
 * @param device id of the leased device; without one the child sees no GPU
 */
export function leaseEnvironment(device: string | undefined): Readonly<Record<string, string>> {
  const gpu = device === undefined ? undefined : /^cuda(?::(\d+))?$/.exec(device);
  // The order of CUDA must be that of the driver's list, which is what the number means.
  return { CUDA_VISIBLE_DEVICES: gpu ? (gpu[1] ?? '0') : '', CUDA_DEVICE_ORDER: 'PCI_BUS_ID' };
}
