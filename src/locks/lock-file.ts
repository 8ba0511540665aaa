/**
 * A lock that is a file: it names its owner, and one whose owner is gone is taken over.
 *
 * An owner on this machine is alive when its process exists and (where /proc tells) started when the lock says. An
 * owner on another machine, or in another container, is judged by the lock's age: owners touch it every few seconds.
 */
import { link, open, readFile, rename, rm, stat, unlink, utimes, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { errorCodeOf, randomSuffix } from '../artifacts/durable-fs.ts';
import type { Fr1Error } from '../errors/fr1-error.ts';
import { isOwnerAlive, type ProcessOwner, thisProcess } from './process-owner.ts';

const HEARTBEAT_MS = 5_000;
/** Age after which a lock from another machine counts as left behind. */
const STALE_AFTER_MS = 60_000;

export interface LockOwner extends ProcessOwner {
  readonly host: string;
  readonly startedAt: string;
}

export interface FileLock extends AsyncDisposable {
  /** The process whose lock was taken over because it is gone: it was cut off. */
  readonly recoveredFrom: number | undefined;
  release(): Promise<void>;
}

export interface LockFileOptions {
  /** How long a living owner is waited for. */
  readonly patienceMs: number;
  readonly pollMs: number;
  readonly signal?: AbortSignal | undefined;
  /** The error after that, for an owner that may be unknown. */
  refused(owner: LockOwner | undefined): Fr1Error;
}

/** Waits for the lock and takes it; the folder must exist. Rejects with `refused` or the signal's reason. */
export async function takeLockFile(path: string, options: LockFileOptions): Promise<FileLock> {
  const owner: LockOwner = { ...(await thisProcess()), host: hostname(), startedAt: new Date().toISOString() };
  const token = `${JSON.stringify({ ...owner, token: randomSuffix() })}\n`;
  const candidate = join(dirname(path), `.tmp-${basename(path)}-${randomSuffix()}`);
  let recoveredFrom: number | undefined;
  try {
    const waitUntil = performance.now() + options.patienceMs;
    for (let takeovers = 0; ; ) {
      options.signal?.throwIfAborted();
      await writeFile(candidate, token);
      if (await claim(candidate, path, token)) break;
      const holder = await inspectHolder(path, candidate);
      if (holder === 'gone') continue;
      if (holder.isAlive) {
        if (performance.now() > waitUntil) throw options.refused(holder.owner);
        await sleep(options.pollMs);
        continue;
      }
      if (takeovers++ === 10) throw options.refused(holder.owner);
      if (await takeAway(path, holder.text)) recoveredFrom = holder.owner?.pid ?? 0;
    }
  } finally {
    await rm(candidate, { force: true });
  }

  const heartbeat = setInterval(() => {
    const now = new Date();
    // The lock may have been removed by hand; the work goes on either way.
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
  return { text, owner, isAlive: await isOwnerAlive(owner) };
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
