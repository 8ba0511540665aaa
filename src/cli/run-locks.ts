/** Reads and writes fr1.lock files for commands. */
import { readFile } from 'node:fs/promises';
import { basename, dirname, extname, join, relative, sep } from 'node:path';
import { errorCodeOf, writeJsonAtomically } from '../artifacts/durable-fs.ts';
import { Fr1Error } from '../errors/fr1-error.ts';
import { parseLock, type RunLock } from '../run/run-lock.ts';
import type { Workspace } from '../run/workspace.ts';

/** `pipelines/quickstart.yaml` -> `pipelines/quickstart.fr1.lock`. */
export function lockBeside(pipelineFile: string): string {
  return join(dirname(pipelineFile), `${basename(pipelineFile, extname(pipelineFile))}.fr1.lock`);
}

export function lockOfRunPath(workspace: Workspace, run: string): string {
  return join(workspace.directory, 'runs', run, 'fr1.lock');
}

/** @throws LOCK_MISSING, LOCK_INVALID */
export async function readLock(path: string): Promise<RunLock> {
  const lock = await readLockIfPresent(path);
  if (lock) return lock;
  throw new Fr1Error('LOCK_MISSING', `there is no lock at ${path}`, {
    hint: 'fr1 run FILE --lock writes one when the run is done',
  });
}

/** @throws LOCK_INVALID */
export async function readLockIfPresent(path: string): Promise<RunLock | undefined> {
  const text = await readFile(path, 'utf8').catch((error: unknown) => {
    if (errorCodeOf(error) === 'ENOENT') return undefined;
    throw error;
  });
  return text === undefined ? undefined : parseLock(text, path);
}

/** `pipelineFile` is absolute; the lock names it from where it lies itself. */
export async function writeLock(path: string, lock: Omit<RunLock, 'file'>, pipelineFile: string): Promise<void> {
  const file = relative(dirname(path), pipelineFile).split(sep).join('/');
  await writeJsonAtomically(path, { ...lock, file });
}
