/**
 * Keeps the fr1 processes of one machine and user from using a device twice: a ledger that all of them write.
 *
 *   <directory>/ledger.json   who holds and who waits, in the order of asking
 *   <directory>/mutex         held for the moments in which the ledger changes
 *
 * A GPU is lent to one holder at a time. The CPU is lent by threads: holders run side by side while their threads fit
 * the processors and their memory fits the machine's. Who asked first is served first; a later request passes an earlier
 * one only where it does not take what the earlier one waits for. Entries of processes that are gone do not count, so a
 * killed run blocks nobody. Containers that share the folder but not their processes do not see each other.
 */
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { availableParallelism, hostname, tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Fr1Error } from '../errors/fr1-error.ts';
import { takeLockFile } from '../locks/lock-file.ts';
import { isOwnerAlive, type ProcessOwner, thisProcess } from '../locks/process-owner.ts';
import { isCpu } from './devices.ts';
import type { DeviceInfo } from './lease.ts';

const POLL_MS = 150;
/** The mutex is held for milliseconds; longer than this means that something is wrong with its folder. */
const MUTEX_PATIENCE_MS = 30_000;

export interface LedgerEntry extends ProcessOwner {
  /** Grows with every request of the machine; also the order. */
  readonly ticket: number;
  /** Who asks, for messages, e.g. `quickstart/sft`. */
  readonly holder: string;
  /** When it asked; of one that holds a device, since when it does. */
  readonly since: string;
  /** Devices of which one is wanted. */
  readonly candidates: readonly string[];
  /** The one that is held; absent while waiting. */
  readonly device?: string;
  /** CPU threads, of a CPU device. */
  readonly threads: number;
  readonly memoryBytes: number;
}

export interface MachineLeaseRequest {
  readonly candidates: readonly DeviceInfo[];
  readonly holder: string;
  readonly memoryBytes?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface MachineLease extends AsyncDisposable {
  /** The candidate that was granted. */
  readonly device: DeviceInfo;
}

/** What the machine has of that which several holders share. */
export interface MachineCapacity {
  readonly threads: number;
  readonly memoryBytes: number;
}

export interface MachineLeasesOptions {
  /** Told once per request that has to wait, with one that it waits for. */
  readonly onWait?: ((request: MachineLeaseRequest, blockedBy: LedgerEntry) => void) | undefined;
  /** @default the processors that this process may use */
  readonly threads?: number | undefined;
}

/** The folder of a user's ledger on this machine. */
export function defaultLeaseDirectory(): string {
  return join(tmpdir(), `fr1-leases-${process.getuid?.() ?? userInfo().username}-${hostname()}`);
}

export class MachineLeases {
  readonly #directory: string;
  readonly #options: MachineLeasesOptions;

  constructor(directory: string = defaultLeaseDirectory(), options: MachineLeasesOptions = {}) {
    this.#directory = directory;
    this.#options = options;
  }

  /** Waits for one of the candidates and holds it until it is disposed of. Rejects with the signal's reason. */
  async acquire(request: MachineLeaseRequest): Promise<MachineLease> {
    const { candidates, holder, memoryBytes = 0, signal } = request;
    signal?.throwIfAborted();
    const capacity = this.#capacityFor(candidates);
    const owner = await thisProcess();
    const ticket = await this.#update(signal, (entries) => {
      const next = entries.reduce((max, entry) => Math.max(max, entry.ticket), 0) + 1;
      const entry: LedgerEntry = {
        ...owner,
        ticket: next,
        holder,
        since: new Date().toISOString(),
        candidates: candidates.map(({ id }) => id),
        threads: Math.min(capacity.threads, Math.max(...candidates.map((each) => (isCpu(each.id) ? each.threads : 0)))),
        memoryBytes: Math.min(capacity.memoryBytes, memoryBytes),
      };
      return { entries: [...entries, entry], result: next };
    });
    const leave = async () => {
      await this.#update(undefined, (entries) => ({ entries: entries.filter((each) => each.ticket !== ticket) }));
    };
    try {
      let hasTold = false;
      for (;;) {
        signal?.throwIfAborted();
        // Read without the mutex first: who waits long should not keep others from the ledger.
        if (grantsOf(await this.#living(), capacity).has(ticket)) {
          const granted = await this.#update(signal, (entries) => {
            const device = grantsOf(entries, capacity).get(ticket);
            if (device === undefined) return { entries };
            return {
              entries: entries.map((each) =>
                each.ticket === ticket ? { ...each, device, since: new Date().toISOString() } : each,
              ),
              result: candidates.find(({ id }) => id === device),
            };
          });
          if (granted !== undefined) return { device: granted, [Symbol.asyncDispose]: leave };
        }
        if (!hasTold) {
          hasTold = true;
          const blocker = blockerOf(ticket, await this.#living());
          if (blocker) this.#options.onWait?.(request, blocker);
        }
        await sleep(POLL_MS, undefined, signal && { signal });
      }
    } catch (error) {
      await leave();
      throw signal?.aborted ? signal.reason : error;
    }
  }

  /** Who holds and who waits; entries of processes that are gone are left out. */
  async entries(): Promise<readonly LedgerEntry[]> {
    return this.#living();
  }

  /** Takes what processes left that are gone out of the ledger. */
  async prune(): Promise<void> {
    if ((await this.#read()).length === 0) return;
    await this.#update(undefined, (entries) => ({ entries }));
  }

  #capacityFor(candidates: readonly DeviceInfo[]): MachineCapacity {
    const memory = candidates.flatMap(({ memoryBytes }) => (memoryBytes === undefined ? [] : [memoryBytes]));
    return {
      threads: this.#options.threads ?? availableParallelism(),
      memoryBytes: memory.length > 0 ? Math.max(...memory) : Number.POSITIVE_INFINITY,
    };
  }

  /** Changes the ledger while no other process does; the entries given are those of living processes. */
  async #update<Result>(
    signal: AbortSignal | undefined,
    change: (entries: readonly LedgerEntry[]) => { entries: readonly LedgerEntry[]; result?: Result },
  ): Promise<Result> {
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    await using _mutex = await takeLockFile(join(this.#directory, 'mutex'), {
      patienceMs: MUTEX_PATIENCE_MS,
      pollMs: 5,
      signal,
      refused: (owner) =>
        new Fr1Error(
          'DEVICE_UNAVAILABLE',
          `the list of devices in use is locked by process ${owner?.pid ?? 'unknown'}`,
          {
            hint: `stop that process, or remove ${this.#directory}`,
          },
        ),
    });
    const { entries, result } = change(await this.#living());
    const path = join(this.#directory, 'ledger.json');
    const temporary = join(this.#directory, `.tmp-ledger-${process.pid}`);
    // No flush: after a crash of the machine there is no process whose entry would count.
    await writeFile(temporary, `${JSON.stringify({ version: 1, entries }, null, 2)}\n`);
    await rename(temporary, path);
    return result as Result;
  }

  async #living(): Promise<LedgerEntry[]> {
    const entries = await this.#read();
    const alive = await Promise.all(entries.map((entry) => isOwnerAlive(entry)));
    return entries.filter((_, i) => alive[i]);
  }

  async #read(): Promise<readonly LedgerEntry[]> {
    const text = await readFile(join(this.#directory, 'ledger.json'), 'utf8').catch(() => '');
    try {
      const value: unknown = text === '' ? { entries: [] } : JSON.parse(text);
      const entries = typeof value === 'object' && value !== null && 'entries' in value ? value.entries : [];
      return Array.isArray(entries) ? (entries as LedgerEntry[]) : [];
    } catch {
      // Cut short when the machine lost power; nobody of then is alive.
      return [];
    }
  }
}

/** Device by ticket of each waiting entry that may have one now. */
export function grantsOf(entries: readonly LedgerEntry[], capacity: MachineCapacity): Map<number, string> {
  const held = entries.filter(({ device }) => device !== undefined);
  const taken = new Set(held.map(({ device }) => device!).filter(isExclusive));
  let threads = capacity.threads - sum(held.filter(({ device }) => isCpu(device!)).map((entry) => entry.threads));
  let memory =
    capacity.memoryBytes - sum(held.filter(({ device }) => isCpu(device!)).map((entry) => entry.memoryBytes));
  const grants = new Map<number, string>();
  for (const entry of entries.filter(({ device }) => device === undefined).sort((a, b) => a.ticket - b.ticket)) {
    const wantsCpu = entry.candidates.some(isCpu);
    const fits = !wantsCpu || (entry.threads <= threads && entry.memoryBytes <= memory);
    const device = fits ? entry.candidates.find((id) => !taken.has(id)) : undefined;
    if (device !== undefined) {
      grants.set(entry.ticket, device);
      if (isExclusive(device)) taken.add(device);
    } else {
      // What it waits for is kept for it, so that small requests cannot pass it for ever.
      for (const id of entry.candidates.filter(isExclusive)) taken.add(id);
    }
    if (wantsCpu) [threads, memory] = [threads - entry.threads, memory - entry.memoryBytes];
  }
  return grants;
}

/** An earlier entry that wants or holds something of what the ticket's entry wants. */
function blockerOf(ticket: number, entries: readonly LedgerEntry[]): LedgerEntry | undefined {
  const waiting = entries.find((entry) => entry.ticket === ticket);
  if (!waiting) return undefined;
  const others = entries.filter(
    (entry) => entry.ticket !== ticket && (entry.device !== undefined || entry.ticket < ticket),
  );
  const concerns = (entry: LedgerEntry) =>
    (entry.device === undefined ? entry.candidates : [entry.device]).some(
      (id) => waiting.candidates.includes(id) || (isCpu(id) && waiting.candidates.some(isCpu)),
    );
  return others.filter(concerns).sort((a, b) => Number(a.device === undefined) - Number(b.device === undefined))[0];
}

/** Plain `cpu` is shared by threads; `cpu:1` and GPUs have one holder. */
function isExclusive(id: string): boolean {
  return id !== 'cpu';
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, each) => total + each, 0);
}
