/**
 * What a directory holds, as a list of files with their hashes, and the content digest made from it.
 *
 * The digest covers relative paths, sizes and bytes; it does not cover times, permissions or empty directories.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { lstat, readdir, stat } from 'node:fs/promises';
import { basename, join, relative, sep } from 'node:path';
import { Fr1Error } from '../errors/fr1-error.ts';

export interface FileEntry {
  /** Relative to the artifact's directory, with `/`. */
  readonly path: string;
  readonly size: number;
  readonly mtimeMs: number;
  /** Time of the last change of content or attributes, which no program can set. Absent in manifests of old versions. */
  readonly ctimeMs?: number;
  readonly sha256: string;
}

export interface Manifest {
  readonly version: 1;
  /** `sha256:<hex>` over the entries' paths, sizes and hashes. */
  readonly digest: string;
  readonly files: readonly FileEntry[];
}

interface FoundFile {
  readonly path: string;
  readonly absolute: string;
  readonly size: number;
  readonly mtimeMs: number;
  readonly ctimeMs: number;
}

/**
 * Regular files below a directory (or the one file given), sorted by relative path. Symbolic links are followed only
 * where the caller allows it: a local model folder may hold links into a download cache, an output may not.
 *
 * @throws ARTIFACT_INVALID for a link that is not followed, a socket or another thing that is not a file
 */
export async function listFiles(root: string, options: { followLinks?: boolean } = {}): Promise<FoundFile[]> {
  const rootStat = await stat(root);
  if (rootStat.isFile()) {
    const { size, mtimeMs, ctimeMs } = rootStat;
    return [{ path: basename(root), absolute: root, size, mtimeMs, ctimeMs }];
  }
  const found: FoundFile[] = [];
  const walk = async (directory: string): Promise<void> => {
    for (const name of await readdir(directory)) {
      const absolute = join(directory, name);
      const info = options.followLinks ? await stat(absolute) : await lstat(absolute);
      if (info.isDirectory()) await walk(absolute);
      else if (info.isFile()) {
        const path = relative(root, absolute).split(sep).join('/');
        found.push({ path, absolute, size: info.size, mtimeMs: info.mtimeMs, ctimeMs: info.ctimeMs });
      } else {
        throw new Fr1Error('ARTIFACT_INVALID', `${absolute} is neither a file nor a folder`, {
          hint: 'an artifact holds plain files and folders only; copy the file instead of linking to it',
        });
      }
    }
  };
  await walk(root);
  return found.sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0));
}

export async function hashFile(path: string, signal?: AbortSignal): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20, ...(signal && { signal }) })) {
    hash.update(chunk as Buffer);
  }
  return hash.digest('hex');
}

export function digestOf(files: readonly Pick<FileEntry, 'path' | 'size' | 'sha256'>[]): string {
  const hash = createHash('sha256');
  // A path cannot hold NUL, so the separators make the text unambiguous.
  for (const file of files) hash.update(`${file.path}\0${file.size}\0${file.sha256}\n`);
  return `sha256:${hash.digest('hex')}`;
}

/** Whether a file was left alone since its entry was written, as far as size and times can tell. */
export function isUntouched(found: Omit<FileEntry, 'sha256'>, recorded: FileEntry): boolean {
  const { size, mtimeMs, ctimeMs } = recorded;
  return found.size === size && found.mtimeMs === mtimeMs && (ctimeMs === undefined || found.ctimeMs === ctimeMs);
}

/**
 * Hashes a directory. Files whose size and times equal those of `known` keep the hash recorded there.
 */
export async function readManifest(
  root: string,
  options: { known?: Manifest | undefined; followLinks?: boolean; signal?: AbortSignal } = {},
): Promise<Manifest> {
  const known = new Map(options.known?.files.map((file) => [file.path, file]));
  const files: FileEntry[] = [];
  for (const found of await listFiles(root, options)) {
    const { path, size, mtimeMs, ctimeMs } = found;
    const before = known.get(path);
    const sha256 =
      before && isUntouched(found, before) ? before.sha256 : await hashFile(found.absolute, options.signal);
    files.push({ path, size, mtimeMs, ctimeMs, sha256 });
  }
  return { version: 1, digest: digestOf(files), files };
}

export function totalBytes(manifest: Manifest): number {
  return manifest.files.reduce((sum, file) => sum + file.size, 0);
}
