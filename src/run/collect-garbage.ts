/**
 * Removes from a workspace what no recent run refers to. Called with the workspace locked, so that nothing is under way.
 *
 * Kept is what the last runs and the pinned ones name: their stages' cache entries, the artifacts of these, and the
 * checkpoints of stages that they left unfinished; also the artifacts to which outputs of a pipeline link. Everything else goes: older artifacts and entries, abandoned work,
 * trash and temporary files. Records, events and logs of runs stay; they are small, and they are the history.
 */
import { lstat, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { errorCodeOf, namesIn, removeTree } from '../artifacts/durable-fs.ts';
import { hexOf } from '../artifacts/store.ts';
import { linkedDigests } from './place-outputs.ts';
import { readRecord } from './recorder.ts';
import { makersOf } from './verify-store.ts';
import type { Workspace } from './workspace.ts';

const PIN = 'pinned';

export interface Removed {
  readonly what: 'artifact' | 'work' | 'cache-entry' | 'temporary';
  /** Relative to the workspace. */
  readonly path: string;
  /** What the disk gets back. A file that also has another name is not counted. */
  readonly bytes: number;
  /** `stage.output` of an artifact, name of the stage of a cache entry. */
  readonly of: readonly string[];
}

export interface GarbageReport {
  readonly version: 1;
  readonly dryRun: boolean;
  readonly keptRuns: readonly string[];
  readonly keptArtifacts: number;
  readonly keptBytes: number;
  readonly removed: readonly Removed[];
  readonly freedBytes: number;
}

export interface GarbageOptions {
  /** How many of the last runs keep what they made. */
  readonly keepRuns: number;
  /** Only say what would be removed. */
  readonly dryRun: boolean;
}

export async function collectGarbage(workspace: Workspace, options: GarbageOptions): Promise<GarbageReport> {
  const { directory, store } = workspace;
  const keptRuns = await runsToKeep(workspace, options.keepRuns);
  const fingerprints = new Set<string>();
  const digests = new Set(await linkedDigests(workspace));
  for (const id of keptRuns) {
    for (const stage of (await readRecord(workspace, id))?.stages ?? []) {
      if (stage.fingerprint !== undefined) fingerprints.add(stage.fingerprint);
      for (const { digest } of Object.values(stage.outputs)) digests.add(digest);
    }
  }
  const entries = await workspace.cacheEntries();
  for (const { fingerprint, outputs } of entries) {
    if (fingerprints.has(fingerprint)) for (const { digest } of Object.values(outputs)) digests.add(digest);
  }

  const removed: Removed[] = [];
  const drop = async (what: Removed['what'], path: string, of: readonly string[], remove: () => Promise<void>) => {
    removed.push({ what, path, of, bytes: await diskBytes(join(directory, path)) });
    if (!options.dryRun) await remove();
  };

  // Entries go before their artifacts: an entry whose artifact is gone would be told as damage.
  for (const { fingerprint, stage } of entries) {
    if (fingerprints.has(fingerprint)) continue;
    await drop('cache-entry', `cache/${hexOf(fingerprint)}.json`, [stage], () => workspace.dropCache(fingerprint));
  }
  if (!options.dryRun) await workspace.forgetLast();

  const makers = makersOf(entries);
  let keptArtifacts = 0;
  let keptBytes = 0;
  for (const digest of await store.digests()) {
    if (digests.has(digest)) {
      keptArtifacts++;
      keptBytes += await diskBytes(store.pathOf(digest));
    } else {
      await drop('artifact', `store/${hexOf(digest)}`, makers.get(digest) ?? [], () => store.remove(digest));
    }
  }

  const finished = new Set(entries.map(({ fingerprint }) => fingerprint));
  for (const hex of await namesIn(join(directory, 'work'))) {
    const fingerprint = `sha256:${hex}`;
    if (fingerprints.has(fingerprint) && !finished.has(fingerprint)) {
      for (const path of await halfWritten(join(directory, 'work', hex, 'state'))) {
        await drop('temporary', `work/${hex}/state/${path}`, [], () => rm(join(directory, 'work', hex, 'state', path)));
      }
    } else {
      await drop('work', `work/${hex}`, [], () => removeTree(join(directory, 'work', hex), join(directory, 'trash')));
    }
  }

  for (const path of await workspace.leftovers()) {
    await drop('temporary', path.slice(directory.length + 1), [], () => rm(path, { force: true }));
  }
  for (const name of await namesIn(join(directory, 'trash'))) {
    await drop('temporary', `trash/${name}`, [], () =>
      rm(join(directory, 'trash', name), { recursive: true, force: true }),
    );
  }
  if (!options.dryRun) await store.clean();

  const freedBytes = removed.reduce((sum, { bytes }) => sum + bytes, 0);
  return { version: 1, dryRun: options.dryRun, keptRuns, keptArtifacts, keptBytes, removed, freedBytes };
}

/** Keeps what a run made until the pin is taken away, however many runs follow. */
export async function pinRun(workspace: Workspace, id: string, isPinned: boolean): Promise<void> {
  const path = join(workspace.directory, 'runs', id, PIN);
  if (isPinned) await writeFile(path, '');
  else await rm(path, { force: true });
}

async function runsToKeep(workspace: Workspace, count: number): Promise<string[]> {
  const runs = join(workspace.directory, 'runs');
  const ids = await namesIn(runs);
  const last = new Set(ids.slice(Math.max(0, ids.length - count)));
  const kept: string[] = [];
  for (const id of ids) if (last.has(id) || (await namesIn(join(runs, id))).includes(PIN)) kept.push(id);
  return kept;
}

/** Files that the engine was writing when its process ended; each has the process's id in its name. */
async function halfWritten(state: string): Promise<string[]> {
  const names = await readdir(state, { recursive: true }).catch((error: unknown) => {
    if (errorCodeOf(error) === 'ENOENT') return [];
    throw error;
  });
  return names.filter((name) => /\.\d+\.tmp$/.test(name));
}

async function diskBytes(path: string): Promise<number> {
  const info = await lstat(path);
  if (!info.isDirectory()) return info.nlink === 1 ? info.size : 0;
  let bytes = 0;
  for (const name of await readdir(path)) bytes += await diskBytes(join(path, name));
  return bytes;
}
