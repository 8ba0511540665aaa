/**
 * Puts results where the pipeline's `outputs` name a place. The place is replaced as a whole, and only when what is there
 * was put there by fr1 and left as it was, or is nothing: the user's own files are never overwritten.
 *
 *   outputs.json   in the workspace: what was put where, with the files' sizes and times
 */
import { constants, cp, lstat, mkdir, readlink, rename, rm, rmdir, symlink } from 'node:fs/promises';
import { dirname, join, sep } from 'node:path';
import { errorCodeOf, namesIn, randomSuffix, readJsonIfPresent, writeJsonAtomically } from '../artifacts/durable-fs.ts';
import { type Manifest, readManifest } from '../artifacts/manifest.ts';
import type { PipelineOutput } from '../config/types.ts';
import { Fr1Error } from '../errors/fr1-error.ts';
import type { OutputRecord } from './events.ts';
import type { Workspace } from './workspace.ts';

interface Placed {
  readonly digest: string;
  readonly mode: PipelineOutput['mode'];
  /** Of a copy, as it was written. */
  readonly manifest?: Manifest;
}

type PlacedByPath = Record<string, Placed>;

/** Digests that links lead to; the collector of garbage keeps them. */
export async function linkedDigests(workspace: Workspace): Promise<string[]> {
  return Object.values(await readPlaced(workspace)).flatMap(({ mode, digest }) => (mode === 'link' ? [digest] : []));
}

/** Places outputs one after the other: they share one record. */
export class OutputPlacer {
  readonly #workspace: Workspace;
  #last: Promise<unknown> = Promise.resolve();

  constructor(workspace: Workspace) {
    this.#workspace = workspace;
  }

  /**
   * Returns whether anything had to be done.
   *
   * @throws OUTPUT_PLACE_TAKEN when something else is there, or what fr1 put there was changed
   */
  place(output: PipelineOutput, artifact: OutputRecord): Promise<boolean> {
    const turn = this.#last.then(() => place(this.#workspace, output, artifact));
    this.#last = turn.catch(() => undefined);
    return turn;
  }
}

async function place(workspace: Workspace, output: PipelineOutput, artifact: OutputRecord): Promise<boolean> {
  const { path, mode } = output;
  const all = await readPlaced(workspace);
  const before = all[path];
  const state = await stateOf(path, before, workspace);
  if (state === 'foreign') {
    throw new Fr1Error(
      'OUTPUT_PLACE_TAKEN',
      `${output.written} holds files that fr1 did not put there, or that were changed`,
      {
        hint: `move them away, or give the output another name; the result itself is at ${artifact.path}`,
        at: output.position,
      },
    );
  }
  if (state === 'as-placed' && before?.digest === artifact.digest && before.mode === mode) return false;

  const parent = dirname(path);
  await mkdir(parent, { recursive: true });
  const fresh = join(parent, `.fr1-new-${randomSuffix()}`);
  const old = join(parent, `.fr1-old-${randomSuffix()}`);
  try {
    if (mode === 'link') await symlink(artifact.path, fresh, process.platform === 'win32' ? 'junction' : 'dir');
    // A file system that can share blocks between files copies nothing.
    else await cp(artifact.path, fresh, { recursive: true, mode: constants.COPYFILE_FICLONE });
    if (state === 'empty') await rmdir(path);
    else if (state === 'as-placed') await rename(path, old);
    await rename(fresh, path);
  } finally {
    await rm(fresh, { recursive: true, force: true });
  }
  await rm(old, { recursive: true, force: true });
  const placed: Placed = {
    digest: artifact.digest,
    mode,
    ...(mode === 'copy' && { manifest: await readManifest(path) }),
  };
  await writeJsonAtomically(placedPath(workspace), { ...all, [path]: placed });
  return true;
}

async function stateOf(
  path: string,
  before: Placed | undefined,
  workspace: Workspace,
): Promise<'absent' | 'empty' | 'as-placed' | 'foreign'> {
  const info = await lstat(path).catch((error: unknown) => {
    if (errorCodeOf(error) === 'ENOENT') return undefined;
    throw error;
  });
  if (!info) return 'absent';
  if (info.isSymbolicLink()) {
    return (await readlink(path)).startsWith(join(workspace.directory, 'store') + sep) ? 'as-placed' : 'foreign';
  }
  if (!info.isDirectory()) return 'foreign';
  if ((await namesIn(path)).length === 0) return 'empty';
  if (!before?.manifest) return 'foreign';
  const now = await readManifest(path, { known: before.manifest, followLinks: true });
  return now.digest === before.manifest.digest ? 'as-placed' : 'foreign';
}

async function readPlaced(workspace: Workspace): Promise<PlacedByPath> {
  const path = placedPath(workspace);
  try {
    return ((await readJsonIfPresent(path)) ?? {}) as PlacedByPath;
  } catch (cause) {
    throw new Fr1Error('WORKSPACE_UNREADABLE', `cannot read ${path}`, { cause });
  }
}

function placedPath(workspace: Workspace): string {
  return join(workspace.directory, 'outputs.json');
}
