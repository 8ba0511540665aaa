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
 */
export async function lockExisting(named: string | undefined, io: CliIo): Promise<LockedWorkspace> {
  const workspace = existingWorkspace(named, io);
  const lock: WorkspaceLock = await workspace.lock();
  return { workspace, [Symbol.asyncDispose]: () => lock.release() };
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
