/**
 * The folder in which runs keep everything, `.fr1` beside the pipeline file unless the user names another.
 *
 *   store/<digest>/          artifacts                      work/<fingerprint>/   unfinished stages: state/, outputs/
 *   runs/<id>/               run.json, events.jsonl, logs/  cache/<fingerprint>.json   what finished stages made
 *   cache/stages.json        last fingerprint per stage     cache/inputs/         hashes of local input folders
 *   lock                     owner of the running run       trash/                removed trees, emptied at start
 */
import { createHash } from 'node:crypto';
import { mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { errorCodeOf, namesIn, readJsonIfPresent, removeTree, writeJsonAtomically } from '../artifacts/durable-fs.ts';
import { type Manifest, readManifest } from '../artifacts/manifest.ts';
import { ArtifactStore, hexOf } from '../artifacts/store.ts';
import type { ArtifactType, Metric } from '../artifacts/types.ts';
import { Fr1Error } from '../errors/fr1-error.ts';
import type { FingerprintFields } from '../plan/types.ts';
import { explainDiskError } from './disk-error.ts';
import { lockWorkspace, type WorkspaceLock } from './lock.ts';
import type { ReportTable } from './stage-api.ts';

/** What a finished stage made; the key is its fingerprint. */
export interface CacheEntry {
  readonly version: 1;
  readonly fingerprint: string;
  readonly fields: FingerprintFields;
  readonly stage: string;
  readonly outputs: Readonly<Record<string, { readonly type: ArtifactType; readonly digest: string }>>;
  readonly metrics: Readonly<Record<string, Metric>>;
  readonly tables: readonly ReportTable[];
  readonly durationMs: number;
  readonly finishedAt: string;
}

/** Thousands of short stages would otherwise each write the whole list. */
const LAST_WRITTEN_AFTER_MS = 300;

/** Default workspace of a pipeline file. */
export function workspaceBeside(pipelineFile: string): string {
  return join(dirname(resolve(pipelineFile)), '.fr1');
}

export class Workspace {
  /** Absolute. */
  readonly directory: string;
  readonly store: ArtifactStore;
  #unwritten: NodeJS.Timeout | undefined;
  #lastWritten: Promise<void> = Promise.resolve();
  #last: Promise<Record<string, string>> | undefined;
  /** Digests by path, of those who only ask. */
  readonly #asked = new Map<string, Promise<string>>();

  constructor(directory: string) {
    this.directory = resolve(directory);
    this.store = new ArtifactStore(join(this.directory, 'store'), join(this.directory, 'trash'));
  }

  /**
   * Takes the lock and clears what a crash left: trash, temporary files, work of stages that did finish.
   *
   * @throws WORKSPACE_LOCKED when another run holds it
   * @throws WORKSPACE_NOT_WRITABLE, DISK_FULL when the folder cannot be written
   */
  async open(): Promise<WorkspaceLock> {
    const lock = await this.lock();
    try {
      await this.#clean();
    } catch (error) {
      await lock.release();
      throw explainDiskError(error, this.directory);
    }
    return lock;
  }

  /** Takes the lock and leaves everything as it is. Throws what `open` throws. */
  async lock(): Promise<WorkspaceLock> {
    try {
      for (const name of ['store', 'work', 'runs', 'cache/inputs', 'trash']) {
        await mkdir(join(this.directory, name), { recursive: true });
      }
      // The folder ignores itself, wherever the user keeps the pipeline.
      await writeFile(join(this.directory, '.gitignore'), '*\n', { flag: 'wx' }).catch((error: unknown) => {
        if (errorCodeOf(error) !== 'EEXIST') throw error;
      });
      return await lockWorkspace(this.directory);
    } catch (error) {
      throw explainDiskError(error, this.directory);
    }
  }

  /** Every cache entry, in the order of the fingerprints. */
  async cacheEntries(): Promise<CacheEntry[]> {
    const names = await namesIn(join(this.directory, 'cache'));
    const entries = names.filter((name) => /^[0-9a-f]{64}\.json$/.test(name));
    return Promise.all(entries.map(async (name) => (await this.#readJson(join('cache', name))) as CacheEntry));
  }

  /** The record of a finished stage, whether or not its artifacts are still there. */
  async readCache(fingerprint: string): Promise<CacheEntry | undefined> {
    const value = await this.#readJson(join('cache', `${hexOf(fingerprint)}.json`));
    return value as CacheEntry | undefined;
  }

  async writeCache(scope: string, entry: CacheEntry): Promise<void> {
    await writeJsonAtomically(join(this.directory, 'cache', `${hexOf(entry.fingerprint)}.json`), entry);
    await this.markLast(scope, entry.stage, entry.fingerprint);
  }

  /**
   * Remembers which fingerprint the stage of that name had last. It is on disk after `flush`, or a moment later: a crash
   * before that costs the reason of a re-run, no result.
   */
  async markLast(scope: string, stage: string, fingerprint: string): Promise<void> {
    const last = await this.#readLast();
    if (last[lastKey(scope, stage)] === fingerprint) return;
    last[lastKey(scope, stage)] = fingerprint;
    this.#unwritten ??= setTimeout(() => void this.flush().catch(() => undefined), LAST_WRITTEN_AFTER_MS).unref();
  }

  /** Writes what is still in memory only. */
  async flush(): Promise<void> {
    if (this.#unwritten === undefined) return this.#lastWritten;
    clearTimeout(this.#unwritten);
    this.#unwritten = undefined;
    const write = async () => writeJsonAtomically(join(this.directory, 'cache', 'stages.json'), await this.#readLast());
    this.#lastWritten = this.#lastWritten.catch(() => undefined).then(write);
    // A failure of a write in between is told by the next call.
    this.#lastWritten.catch(() => undefined);
    return this.#lastWritten;
  }

  /** Forgets which fingerprint the stages had last whose entries are gone. */
  async forgetLast(): Promise<void> {
    const present = new Set((await this.cacheEntries()).map(({ fingerprint }) => fingerprint));
    const last = await this.#readLast();
    const kept = Object.fromEntries(Object.entries(last).filter(([, fingerprint]) => present.has(fingerprint)));
    if (Object.keys(kept).length === Object.keys(last).length) return;
    this.#last = Promise.resolve(kept);
    await writeJsonAtomically(join(this.directory, 'cache', 'stages.json'), kept);
  }

  async dropCache(fingerprint: string): Promise<void> {
    await rm(join(this.directory, 'cache', `${hexOf(fingerprint)}.json`), { force: true });
  }

  /** What the stage of that name made last in the pipeline `scope`, under whatever fingerprint. */
  async readLastOf(scope: string, stage: string): Promise<CacheEntry | undefined> {
    const fingerprint = (await this.#readLast())[lastKey(scope, stage)];
    return fingerprint === undefined ? undefined : this.readCache(fingerprint);
  }

  workPath(fingerprint: string): string {
    return join(this.directory, 'work', hexOf(fingerprint));
  }

  /** Whether an earlier run left checkpoints of this stage. */
  async hasState(fingerprint: string): Promise<boolean> {
    return (await namesIn(join(this.workPath(fingerprint), 'state'))).length > 0;
  }

  /** Makes `state/` where it is missing and one empty directory per output. */
  async prepareWork(
    fingerprint: string,
    outputs: readonly string[],
  ): Promise<{ state: string; outputs: Record<string, string> }> {
    const work = this.workPath(fingerprint);
    const state = join(work, 'state');
    await mkdir(state, { recursive: true });
    await removeTree(join(work, 'outputs'), join(this.directory, 'trash'));
    const paths: Record<string, string> = {};
    for (const name of outputs) {
      const path = join(work, 'outputs', name);
      await mkdir(path, { recursive: true });
      paths[name] = path;
    }
    return { state, outputs: paths };
  }

  async removeWork(fingerprint: string): Promise<void> {
    await removeTree(this.workPath(fingerprint), join(this.directory, 'trash'));
  }

  /**
   * Digest of a folder or file of the user; files whose size and mtime are as before are not read again.
   * `remember: false` leaves the workspace untouched and looks at each folder once: for plans, which are soon over.
   */
  async digestLocalInput(path: string, options: { remember: boolean; signal?: AbortSignal }): Promise<string> {
    if (options.remember) return this.#hashLocalInput(path, options);
    const asked = this.#asked.get(path) ?? this.#hashLocalInput(path, options);
    this.#asked.set(path, asked);
    return asked;
  }

  async #hashLocalInput(path: string, options: { remember: boolean; signal?: AbortSignal }): Promise<string> {
    const key = createHash('sha256').update(path).digest('hex');
    const file = join('cache', 'inputs', `${key}.json`);
    const known = (await this.#readJson(file)) as Manifest | undefined;
    const { remember, ...rest } = options;
    const manifest = await readManifest(path, { known, followLinks: true, ...rest });
    if (remember) await writeJsonAtomically(join(this.directory, file), manifest);
    return manifest.digest;
  }

  /** Temporary files that a crash left beside those they were to replace; absolute paths. Asked under the lock. */
  async leftovers(): Promise<string[]> {
    const found: string[] = [];
    const runs = (await namesIn(join(this.directory, 'runs'))).map((id) => `runs/${id}`);
    for (const folder of ['.', 'cache', 'cache/inputs', 'store', ...runs]) {
      for (const name of await namesIn(join(this.directory, folder))) {
        if (name.startsWith('.tmp-') || name.startsWith('lock.stale-')) found.push(join(this.directory, folder, name));
      }
    }
    return found;
  }

  async #clean(): Promise<void> {
    await rm(join(this.directory, 'trash'), { recursive: true, force: true, maxRetries: 3 });
    await this.store.clean();
    for (const path of await this.leftovers()) await rm(path, { force: true });
    const finished = new Set(await readdir(join(this.directory, 'cache')));
    for (const hex of await namesIn(join(this.directory, 'work'))) {
      if (finished.has(`${hex}.json`)) await this.removeWork(`sha256:${hex}`);
    }
  }

  /** Read once: under the lock nobody else writes it. */
  #readLast(): Promise<Record<string, string>> {
    this.#last ??= this.#readJson(join('cache', 'stages.json')).then(
      (value) => (value ?? {}) as Record<string, string>,
    );
    return this.#last;
  }

  /** JSON that fr1 wrote: replaced atomically, so anything unreadable was changed from outside. */
  async #readJson(relativePath: string): Promise<unknown> {
    const path = join(this.directory, relativePath);
    try {
      return await readJsonIfPresent(path);
    } catch (cause) {
      throw new Fr1Error('WORKSPACE_UNREADABLE', `cannot read ${path}`, {
        hint: 'remove that file; what it described is made again where needed',
        cause,
      });
    }
  }
}

function lastKey(scope: string, stage: string): string {
  return `${scope}/${stage}`;
}
