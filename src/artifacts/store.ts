/**
 * The content-addressed store: one directory per artifact, named by its digest, beside the manifest that proves it.
 *
 *   store/<hex>/                 the artifact itself, usable as it is (a checkpoint is a model folder)
 *   store/<hex>.manifest.json    its files with sizes, times and hashes
 *
 * Knows no stage and no fingerprint. An artifact exists when both are there: the manifest is written first and the
 * directory arrives by a rename, so a crash leaves at most a manifest without a directory, which counts as nothing.
 */
import { mkdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { Fr1Error } from '../errors/fr1-error.ts';
import {
  errorCodeOf,
  namesIn,
  readJsonIfPresent,
  removeTree,
  renamePatiently,
  syncDirectory,
  syncFile,
  writeJsonAtomically,
} from './durable-fs.ts';
import { isUntouched, listFiles, type Manifest, readManifest, totalBytes } from './manifest.ts';

const MANIFEST_SUFFIX = '.manifest.json';

export type Inspection =
  | { readonly state: 'intact'; readonly path: string; readonly manifest: Manifest }
  | { readonly state: 'missing' }
  | { readonly state: 'damaged'; readonly reason: string };

export class ArtifactStore {
  readonly #directory: string;
  readonly #trash: string;
  /** Digests proven intact by this process. */
  readonly #proven = new Map<string, Manifest>();
  /** The last commit of each digest, which the next one of the same content waits for. */
  readonly #commits = new Map<string, Promise<Manifest>>();

  constructor(directory: string, trash: string) {
    this.#directory = directory;
    this.#trash = trash;
  }

  /** Absolute directory of an artifact, whether or not it exists. */
  pathOf(digest: string): string {
    return join(this.#directory, hexOf(digest));
  }

  /**
   * Moves a finished directory into the store and returns its digest. The directory must lie on the store's file
   * system and is gone afterwards; when the same content is stored already, that stays. Stages that run side by side may
   * commit the same content, such as an empty output, at the same moment.
   *
   * @throws ARTIFACT_INVALID when it holds no file, or something that is not a file
   */
  async commit(directory: string): Promise<Manifest> {
    const manifest = await readManifest(directory);
    if (manifest.files.length === 0) throw new Fr1Error('ARTIFACT_INVALID', `${directory} holds no file`);
    await mkdir(this.#directory, { recursive: true });
    const before = this.#commits.get(manifest.digest) ?? Promise.resolve();
    const own = before.catch(() => {}).then(() => this.#place(directory, manifest));
    this.#commits.set(manifest.digest, own);
    try {
      return await own;
    } finally {
      if (this.#commits.get(manifest.digest) === own) this.#commits.delete(manifest.digest);
    }
  }

  /** The part of a commit that no other one of the same content may interrupt. */
  async #place(directory: string, manifest: Manifest): Promise<Manifest> {
    const existing = await this.inspect(manifest.digest);
    if (existing.state === 'intact') {
      await removeTree(directory, this.#trash);
      return existing.manifest;
    }
    if (existing.state === 'damaged') await this.remove(manifest.digest);

    await syncTree(directory);
    await writeJsonAtomically(this.#manifestPath(manifest.digest), manifest);
    await renamePatiently(directory, this.pathOf(manifest.digest));
    await syncDirectory(this.#directory);
    this.#proven.set(manifest.digest, manifest);
    return manifest;
  }

  /**
   * Tells whether an artifact still is what its digest says. Files with the recorded size and times are taken as
   * unchanged; the others are hashed, and so is every file with `full`.
   *
   * NOTE: every write through the file system shows in the times, since no program can set `ctime`. What the disk loses
   * by itself is found with `full` only.
   */
  async inspect(digest: string, options: { full?: boolean; signal?: AbortSignal } = {}): Promise<Inspection> {
    const path = this.pathOf(digest);
    const proven = this.#proven.get(digest);
    if (proven && !options.full) return { state: 'intact', path, manifest: proven };

    const directory = await stat(path).catch(ignoreMissing);
    const recorded = await this.#readManifest(digest);
    if (!directory) return { state: 'missing' };
    if (!recorded) return { state: 'damaged', reason: 'its manifest is missing or unreadable' };

    const reason = await firstDifference(path, recorded);
    if (reason) return { state: 'damaged', reason };
    const { full, ...rest } = options;
    const manifest = await readManifest(path, { known: full ? undefined : recorded, ...rest });
    if (manifest.digest !== digest) {
      const before = new Map(recorded.files.map((file) => [file.path, file.sha256]));
      const changed = manifest.files.find((file) => before.get(file.path) !== file.sha256);
      return { state: 'damaged', reason: `the content of ${changed?.path ?? 'a file'} has changed` };
    }
    if (!manifest.files.every((file, i) => isUntouched(file, recorded.files[i]!))) {
      // Saves hashing next time; a store that may only be read stays as it is.
      await writeJsonAtomically(this.#manifestPath(digest), manifest).catch(ignoreReadOnly);
    }
    this.#proven.set(digest, manifest);
    return { state: 'intact', path, manifest };
  }

  /** Digests of the artifacts that have a directory, in order. */
  async digests(): Promise<string[]> {
    const names = await namesIn(this.#directory);
    return names.filter((name) => /^[0-9a-f]{64}$/.test(name)).map((name) => `sha256:${name}`);
  }

  /** Bytes of an artifact as its manifest states them; undefined without a manifest. */
  async bytesOf(digest: string): Promise<number | undefined> {
    const manifest = this.#proven.get(digest) ?? (await this.#readManifest(digest));
    return manifest && totalBytes(manifest);
  }

  /** Makes every later `inspect` hash the artifact, whatever its times say, until it is found intact. */
  async distrust(digest: string): Promise<void> {
    this.#proven.delete(digest);
    const manifest = await this.#readManifest(digest);
    if (!manifest) return;
    const files = manifest.files.map((file) => ({ ...file, mtimeMs: 0 }));
    await writeJsonAtomically(this.#manifestPath(digest), { ...manifest, files }).catch(ignoreReadOnly);
  }

  async remove(digest: string): Promise<void> {
    this.#proven.delete(digest);
    await removeTree(this.pathOf(digest), this.#trash);
    await rm(this.#manifestPath(digest), { force: true });
  }

  /** Removes what a crash between the two steps of a commit left: manifests without a directory, temporary files. */
  async clean(): Promise<void> {
    const names = await namesIn(this.#directory);
    const present = new Set(names);
    for (const name of names) {
      const isOrphan = name.endsWith(MANIFEST_SUFFIX) && !present.has(name.slice(0, -MANIFEST_SUFFIX.length));
      if (isOrphan || name.startsWith('.tmp-')) await rm(join(this.#directory, name), { force: true });
    }
  }

  #manifestPath(digest: string): string {
    return `${this.pathOf(digest)}${MANIFEST_SUFFIX}`;
  }

  async #readManifest(digest: string): Promise<Manifest | undefined> {
    try {
      const value = await readJsonIfPresent(this.#manifestPath(digest));
      return isManifest(value) && value.digest === digest ? value : undefined;
    } catch (error) {
      if (error instanceof SyntaxError) return undefined;
      throw error;
    }
  }
}

/** The hexadecimal part of `sha256:<hex>`. */
export function hexOf(digest: string): string {
  const hex = /^sha256:([0-9a-f]{64})$/.exec(digest)?.[1];
  if (!hex) throw new TypeError(`not a digest: ${digest}`);
  return hex;
}

function isManifest(value: unknown): value is Manifest {
  return typeof value === 'object' && value !== null && 'version' in value && value.version === 1 && 'files' in value;
}

/** A file that is gone, new or of another size, told without hashing. */
async function firstDifference(directory: string, manifest: Manifest): Promise<string | undefined> {
  const found = new Map((await listFiles(directory)).map((file) => [file.path, file.size]));
  for (const file of manifest.files) {
    const size = found.get(file.path);
    if (size === undefined) return `${file.path} is missing`;
    if (size !== file.size) return `${file.path} has ${size} bytes instead of ${file.size}`;
    found.delete(file.path);
  }
  const [extra] = found.keys();
  return extra === undefined ? undefined : `${extra} does not belong to it`;
}

async function syncTree(directory: string): Promise<void> {
  const files = await listFiles(directory);
  const directories = new Set([directory]);
  for (const file of files) {
    await syncFile(file.absolute);
    const parts = file.path.split('/').slice(0, -1);
    for (let depth = 1; depth <= parts.length; depth++) directories.add(join(directory, ...parts.slice(0, depth)));
  }
  for (const path of [...directories].reverse()) await syncDirectory(path);
}

function ignoreMissing(error: unknown): undefined {
  if (errorCodeOf(error) === 'ENOENT') return undefined;
  throw error;
}

function ignoreReadOnly(error: unknown): void {
  if (!['EROFS', 'EACCES', 'EPERM'].includes(errorCodeOf(error) ?? '')) throw error;
}
