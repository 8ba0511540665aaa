/**
 * The workspace lock: one `fr1 run` at a time. The lock file names its owner; a lock whose owner is gone is taken over.
 *
 * An owner on this machine is alive when its process exists and (where /proc tells) started when the lock says. An
 * owner on another machine, or in another container, is judged by the lock's age: owners touch it every few seconds.
 */
import { link, open, readFile, rename, rm, stat, unlink, utimes, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { errorCodeOf, randomSuffix } from '../artifacts/durable-fs.ts';
import { Fr1Error } from '../errors/fr1-error.ts';

const HEARTBEAT_MS = 5_000;
/** Age after which a lock from another machine counts as left behind. */
const STALE_AFTER_MS = 60_000;
/** A process that was killed takes a moment to go; its lock is not refused before. */
const DYING_MS = 500;

interface LockOwner {
  readonly pid: number;
  readonly host: string;
  /** Start of the process in clock ticks since boot, where the system tells it. */
  readonly processStart?: string | undefined;
  readonly startedAt: string;
}

export interface WorkspaceLock extends AsyncDisposable {
  /** Whether a lock of a vanished owner was taken over; a run before this one was cut off. */
  readonly recoveredFrom: number | undefined;
  release(): Promise<void>;
}

/** @throws WORKSPACE_LOCKED when another live process holds the lock */
export async function lockWorkspace(directory: string): Promise<WorkspaceLock> {
  const path = join(directory, 'lock');
  const owner: LockOwner = {
    pid: process.pid,
    host: hostname(),
    processStart: (await processTraits(process.pid))?.start,
    startedAt: new Date().toISOString(),
  };
  const token = `${JSON.stringify({ ...owner, token: randomSuffix() })}\n`;
  const candidate = join(directory, `.tmp-lock-${randomSuffix()}`);
  let recoveredFrom: number | undefined;
  try {
    const waitUntil = performance.now() + DYING_MS;
    for (let takeovers = 0; ; ) {
      await writeFile(candidate, token);
      if (await claim(candidate, path, token)) break;
      const holder = await inspectHolder(path, candidate);
      if (holder === 'gone') continue;
      if (holder.isAlive) {
        if (performance.now() > waitUntil) throw lockedError(path, holder.owner);
        await sleep(25);
        continue;
      }
      if (takeovers++ === 10) throw lockedError(path, holder.owner);
      if (await takeAway(path, holder.text)) recoveredFrom = holder.owner?.pid ?? 0;
    }
  } finally {
    await rm(candidate, { force: true });
  }

  const heartbeat = setInterval(() => {
    const now = new Date();
    // The lock may have been removed by hand; the run goes on either way.
    utimes(path, now, now).catch(() => undefined);
  }, HEARTBEAT_MS);
  heartbeat.unref();

  let isHeld = true;
  const release = async () => {
    if (!isHeld) return;
    isHeld = false;
    clearInterval(heartbeat);
    const current = await readFile(path, 'utf8').catch(() => undefined);
    if (current === token) await rm(path, { force: true });
  };
  return { recoveredFrom, release, [Symbol.asyncDispose]: release };
}

/** Puts the lock in place with its whole content at once. Returns false when there is one already. */
async function claim(candidate: string, path: string, token: string): Promise<boolean> {
  try {
    await link(candidate, path);
    return true;
  } catch (error) {
    if (errorCodeOf(error) === 'EEXIST') return false;
    // A file system without hard links: an exclusive create is the next best thing.
    const handle = await open(path, 'wx').catch((openError: unknown) => {
      if (errorCodeOf(openError) === 'EEXIST') return undefined;
      throw openError;
    });
    if (!handle) return false;
    await handle.writeFile(token);
    await handle.close();
    return true;
  }
}

type Holder = { readonly text: string; readonly owner: LockOwner | undefined; readonly isAlive: boolean };

async function inspectHolder(path: string, candidate: string): Promise<Holder | 'gone'> {
  let text: string;
  let ageMs: number;
  try {
    text = await readFile(path, 'utf8');
    // Both times come from the same file system, so clocks of two machines need not agree.
    ageMs = (await stat(candidate)).mtimeMs - (await stat(path)).mtimeMs;
  } catch (error) {
    if (errorCodeOf(error) === 'ENOENT') return 'gone';
    throw error;
  }
  const owner = parseOwner(text);
  if (owner?.host !== hostname()) return { text, owner, isAlive: ageMs < STALE_AFTER_MS };
  const traits = await processTraits(owner.pid);
  const isSameProcess = traits === undefined || owner.processStart === undefined || traits.start === owner.processStart;
  return { text, owner, isAlive: isProcessAlive(owner.pid) && isSameProcess && traits?.hasEnded !== true };
}

/** Moves a stale lock aside; false when another process was quicker. */
async function takeAway(path: string, expected: string): Promise<boolean> {
  const aside = `${path}.stale-${randomSuffix()}`;
  try {
    await rename(path, aside);
  } catch (error) {
    if (errorCodeOf(error) === 'ENOENT') return false;
    throw error;
  }
  const moved = await readFile(aside, 'utf8');
  if (moved !== expected) {
    // A new owner's lock was caught in between: back with it, unless yet another one is in place.
    await link(aside, path).catch(() => undefined);
  }
  await unlink(aside);
  return moved === expected;
}

function parseOwner(text: string): LockOwner | undefined {
  try {
    const value: unknown = JSON.parse(text);
    const isOwner = typeof value === 'object' && value !== null && 'pid' in value && 'host' in value;
    return isOwner ? (value as LockOwner) : undefined;
  } catch {
    // An unfinished write: nobody can be named, age decides.
    return undefined;
  }
}

function isProcessAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return errorCodeOf(error) === 'EPERM';
  }
}

interface ProcessTraits {
  /** Clock ticks since boot. */
  readonly start: string | undefined;
  /** It computes no more; its parent has not asked for its exit code, or never will (a container without an init). */
  readonly hasEnded: boolean;
}

/** Fields 3, 20 and 22 of /proc/<pid>/stat; undefined where there is no /proc or no such process. */
async function processTraits(pid: number): Promise<ProcessTraits | undefined> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined);
  if (text === undefined) return undefined;
  // The command name in parentheses may hold spaces.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const [state, threads] = [fields[0], Number(fields[17])];
  return { start: fields[19], hasEnded: (state === 'Z' || state === 'X') && threads <= 1 };
}

function lockedError(path: string, owner: LockOwner | undefined): Fr1Error {
  const who = owner ? `process ${owner.pid} on ${owner.host}, since ${owner.startedAt}` : 'an unknown process';
  return new Fr1Error('WORKSPACE_LOCKED', `another run is using this workspace (${who})`, {
    hint: `wait for it, stop it, or give this run its own with --workspace DIR (lock file: ${path})`,
  });
}
