/** The pool of a run, loaded and opened when the first stage that computes has to run. */
import { Fr1Error } from '../errors/fr1-error.ts';
import type { Lease } from '../pool/lease.ts';
import type { LedgerEntry, MachineLeaseRequest } from '../pool/machine-leases.ts';
import type { LeaseRequest, SessionPool } from '../pool/pool.ts';

export interface LazyPoolOptions {
  readonly devices: readonly string[];
  readonly threads: number;
  /** Name of the pipeline, by which other processes know the run. */
  readonly pipeline: string;
  /** `FR1_LEASE_DIR`: where processes agree on devices; `off` lets each do as it likes. @default one per user */
  readonly leaseDirectory?: string | undefined;
  warn(message: string): void;
  /** A stage has to wait for a stage of another process. */
  onWait(stage: string, blockedBy: LedgerEntry): void;
}

export interface LazyPool {
  lease(request: LeaseRequest & { readonly holder: string }): Promise<Lease>;
  close(): Promise<void>;
}

export function lazyPool(options: LazyPoolOptions): LazyPool {
  const { devices, threads, pipeline, leaseDirectory, warn, onWait } = options;
  let opened: Promise<SessionPool> | undefined;
  const open = async () => {
    const { SessionPool } = await import('../pool/pool.ts');
    const { MachineLeases } = await import('../pool/machine-leases.ts');
    const prefix = `${pipeline}/`;
    const leases =
      leaseDirectory === 'off'
        ? undefined
        : new MachineLeases(leaseDirectory || undefined, {
            onWait: ({ holder }, blocker) => onWait(holder.slice(prefix.length), blocker),
          });
    const acquire = async (request: MachineLeaseRequest) => {
      try {
        return await leases!.acquire(request);
      } catch (cause) {
        if (cause instanceof Fr1Error || request.signal?.aborted) throw cause;
        throw new Fr1Error('DEVICE_UNAVAILABLE', 'cannot write the list of devices in use on this machine', {
          hint: 'name a folder that can be written in FR1_LEASE_DIR; FR1_LEASE_DIR=off runs without',
          cause,
        });
      }
    };
    const pool = await SessionPool.open({
      devices,
      threads,
      exclusive: leases && ((request) => acquire({ ...request, holder: prefix + request.holder })),
    });
    for (const [device, reason] of pool.fallbackReasons()) {
      warn(`${device} uses the slower runtime: ${reason.message}`);
    }
    return pool;
  };
  return {
    lease: async (request) => {
      opened ??= open();
      return (await opened).lease(request);
    },
    close: async () => {
      try {
        await (await opened)?.close();
      } catch (error) {
        warn(`the session pool did not close cleanly: ${error instanceof Error ? error.message : String(error)}`);
      }
    },
  };
}
