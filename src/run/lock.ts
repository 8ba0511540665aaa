/** The workspace lock: one run at a time. */
import { join } from 'node:path';
import { Fr1Error } from '../errors/fr1-error.ts';
import { type FileLock, takeLockFile } from '../locks/lock-file.ts';

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
