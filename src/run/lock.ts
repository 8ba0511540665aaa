/** The workspace lock: one run at a time. */
import { hostname } from 'node:os';
import { join } from 'node:path';
import { readJsonIfPresent } from '../artifacts/durable-fs.ts';
import { Fr1Error } from '../errors/fr1-error.ts';
import { type FileLock, type LockOwner, takeLockFile } from '../locks/lock-file.ts';
import { isOwnerAlive } from '../locks/process-owner.ts';

/** A process that was killed takes a moment to go; its lock is not refused before. */
const DYING_MS = 500;

export type WorkspaceLock = FileLock;

/** @throws WORKSPACE_LOCKED when another live process holds the lock */
export function lockWorkspace(directory: string): Promise<WorkspaceLock> {
  const path = join(directory, 'lock');
  return takeLockFile(path, {
    patienceMs: DYING_MS,
    pollMs: 25,
    refused(owner) {
      const who = owner ? `process ${owner.pid} on ${owner.host}, since ${owner.startedAt}` : 'an unknown process';
      return new Fr1Error('WORKSPACE_LOCKED', `another run is using this workspace (${who})`, {
        hint: `wait for it, stop it, or give this run its own with --workspace DIR (lock file: ${path})`,
      });
    },
  });
}

/** Whether a run is under way in the workspace; of a process on another machine it is assumed. */
export async function isWorkspaceInUse(directory: string): Promise<boolean> {
  const owner = (await readJsonIfPresent(join(directory, 'lock')).catch(() => undefined)) as LockOwner | undefined;
  return owner !== undefined && (owner.host !== hostname() || (await isOwnerAlive(owner)));
}
