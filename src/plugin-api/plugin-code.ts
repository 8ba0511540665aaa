/**
 * What a plugin's code is in the cache key, so that a stage runs again when its plugin has changed: for a local plugin a
 * digest of its files, for one from node_modules the package's name and version.
 */
import { existsSync, readFileSync } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import { digestOf, hashFile } from '../artifacts/manifest.ts';

/** Beside the sources of a plugin, but no part of what it does. */
const LEFT_OUT = /^\.|^node_modules$|\.test\.[cm]?[jt]s$|\.md$|^package-lock\.json$|^examples?$|^tsconfig.*\.json$/;

/**
 * Digest of the modules that a local plugin has loaded and, where it is a folder, of everything in that folder but
 * node_modules, hidden files, tests, examples, Markdown and, beside a source `stage.*`, what a build left in dist.
 *
 * @param loaded absolute paths of the modules; those of node_modules are left out
 */
export async function localCode(file: string, folder: string | undefined, loaded: readonly string[]): Promise<string> {
  const base = path.dirname(file);
  const files = new Set([file, ...loaded.filter((each) => !isInstalled(each))]);
  if (folder !== undefined) for (const each of await filesOf(folder, isBelow(file, folder))) files.add(each);
  const entries = await Promise.all(
    [...files].map(async (each) => ({
      path: path.relative(base, each).split(path.sep).join('/'),
      size: (await stat(each)).size,
      sha256: await hashFile(each),
    })),
  );
  return digestOf(entries.sort((a, b) => (a.path < b.path ? -1 : 1)));
}

/** `name@version` of the package that holds the file. */
export function packageCode(file: string): string {
  for (let folder = path.dirname(file); folder !== path.dirname(folder); folder = path.dirname(folder)) {
    const manifest = path.join(folder, 'package.json');
    if (!existsSync(manifest)) continue;
    const { name, version } = JSON.parse(readFileSync(manifest, 'utf8')) as { name?: string; version?: string };
    if (name !== undefined) return `${name}@${version ?? 'unknown'}`;
  }
  return path.basename(file);
}

export function isInstalled(file: string): boolean {
  return file.split(path.sep).includes('node_modules');
}

async function filesOf(folder: string, isSource: boolean): Promise<string[]> {
  const found: string[] = [];
  const walk = async (directory: string): Promise<void> => {
    for (const entry of await readdir(directory, { withFileTypes: true })) {
      const { name } = entry;
      if (LEFT_OUT.test(name) || (isSource && directory === folder && name === 'dist')) continue;
      if (entry.isDirectory()) await walk(path.join(directory, name));
      else if (entry.isFile()) found.push(path.join(directory, name));
    }
  };
  await walk(folder);
  return found;
}

function isBelow(file: string, folder: string): boolean {
  return path.dirname(file) === folder;
}
