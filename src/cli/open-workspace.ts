/** Opens an existing workspace for the commands that look after one. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Fr1Error } from '../errors/fr1-error.ts';
import type { WorkspaceLock } from '../run/lock.ts';
import { Workspace } from '../run/workspace.ts';
import type { CliIo } from './io.ts';
import { findWorkspace } from './show-command.ts';

export interface LockedWorkspace extends AsyncDisposable {
  readonly workspace: Workspace;
}

/**
 * @throws WORKSPACE_MISSING where there is none
 * @throws WORKSPACE_LOCKED while a run is under way
 * @throws WORKSPACE_NOT_WRITABLE, unless `readOnly`: where nothing can be written, no run can change anything either
 */
export async function lockExisting(
  named: string | undefined,
  io: CliIo,
  { readOnly = false } = {},
): Promise<LockedWorkspace> {
  const workspace = existingWorkspace(named, io);
  const lock: WorkspaceLock | undefined = await workspace.lock().catch((error: unknown) => {
    if (readOnly && error instanceof Fr1Error && error.code === 'WORKSPACE_NOT_WRITABLE') return undefined;
    throw error;
  });
  return { workspace, [Symbol.asyncDispose]: async () => lock?.release() };
}

/** @throws WORKSPACE_MISSING where there is none */
export function existingWorkspace(named: string | undefined, io: CliIo): Workspace {
  const directory = findWorkspace(named, io);
  if (!existsSync(join(directory, 'store'))) {
    throw new Fr1Error('WORKSPACE_MISSING', `there is no workspace at ${directory}`, {
      hint: 'run a pipeline first, or name the workspace with --workspace DIR',
    });
  }
  return new Workspace(directory);
}
