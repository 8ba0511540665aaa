/** Programs over a lease: their sessions are shared by content key with whoever else uses the device. */
import type { SessionSource } from '../engine/program.ts';
import type { Lease } from './lease.ts';

export function sourceOfLease(lease: Lease): SessionSource {
  return {
    provider: lease.device.provider,
    memory: lease.memory,
    session: (key, create) => lease.session(`${lease.device.id}:${key}`, create),
  };
}
