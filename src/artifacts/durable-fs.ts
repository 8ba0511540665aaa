/** File-system steps that survive a crash: write beside, fsync, rename. Knows no artifact. */
import { randomBytes } from 'node:crypto';
import { mkdir, open, readdir, readFile, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

export function errorCodeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}

/** A short random suffix for names that must not collide between processes. */
export function randomSuffix(): string {
  return randomBytes(6).toString('hex');
}

/** Flushes a file's content to the disk. */
export async function syncFile(path: string): Promise<void> {
  // NOTE: Windows flushes only handles that may write, so read-only artifact files are opened for update.
  const handle = await open(path, process.platform === 'win32' ? 'r+' : 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Flushes a directory's entries; systems that cannot open or flush directories (Windows) order renames themselves. */
export async function syncDirectory(path: string): Promise<void> {
  if (process.platform === 'win32') return;
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } catch (error) {
    if (!['EINVAL', 'EISDIR', 'EPERM', 'ENOTSUP'].includes(errorCodeOf(error) ?? '')) throw error;
  } finally {
    await handle.close();
  }
}

/**
 * Renames, waiting out a moment in which another program (a virus scanner, an indexer) holds the file on Windows.
 * Elsewhere the first failure counts.
 */
export async function renamePatiently(from: string, to: string): Promise<void> {
  for (let attempt = 0; ; attempt++) {
    try {
      await rename(from, to);
      return;
    } catch (error) {
      const isBusy = ['EPERM', 'EACCES', 'EBUSY'].includes(errorCodeOf(error) ?? '');
      if (process.platform !== 'win32' || !isBusy || attempt === 5) throw error;
      await sleep(50 * 2 ** attempt);
    }
  }
}

/** Replaces a file so that a reader, or a crash, sees either the old content or the new one. */
export async function writeFileAtomically(path: string, content: string): Promise<void> {
  const temporary = join(dirname(path), `.tmp-${basename(path)}-${randomSuffix()}`);
  try {
    const handle = await open(temporary, 'w');
    try {
      await handle.writeFile(content);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await renamePatiently(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  await syncDirectory(dirname(path));
}

export async function writeJsonAtomically(path: string, value: unknown): Promise<void> {
  await writeFileAtomically(path, `${JSON.stringify(value, null, 2)}\n`);
}

/** Parsed JSON, or undefined when there is no such file. @throws SyntaxError when the file is not JSON */
export async function readJsonIfPresent(path: string): Promise<unknown> {
  const text = await readFile(path, 'utf8').catch((error: unknown) => {
    if (errorCodeOf(error) === 'ENOENT') return undefined;
    throw error;
  });
  return text === undefined ? undefined : JSON.parse(text);
}

/** Names in a directory, sorted by code unit; none when it does not exist. */
export async function namesIn(directory: string): Promise<string[]> {
  const names = await readdir(directory).catch((error: unknown) => {
    if (errorCodeOf(error) === 'ENOENT') return [];
    throw error;
  });
  return names.sort();
}

/**
 * Removes a directory tree without ever leaving half of it under its name: it first moves to a trash name in
 * `trashDirectory` (on the same file system), where a later start finds what a crash left.
 */
export async function removeTree(path: string, trashDirectory: string): Promise<void> {
  await mkdir(trashDirectory, { recursive: true });
  const trash = join(trashDirectory, `${basename(path)}-${randomSuffix()}`);
  try {
    await renamePatiently(path, trash);
  } catch (error) {
    if (errorCodeOf(error) === 'ENOENT') return;
    throw error;
  }
  await rm(trash, { recursive: true, force: true, maxRetries: 3 });
}
