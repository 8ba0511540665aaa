/** Where images lie that a list names by paths of another machine: a folder for each beginning of a path. */
import { existsSync } from 'node:fs';
import path from 'node:path';
import type { ImageContent } from './source.ts';

/** Beginning of the paths in the list (whole folder names; `.` for any path) -> absolute folder in its stead. */
export type ImageRoots = Readonly<Record<string, string>>;

/** The content with the file that the longest fitting beginning leads to; unchanged where none fits. */
export function relocated(content: ImageContent, roots: ImageRoots): ImageContent {
  if (content.kind === 'bytes') return content;
  const parts = partsOf(content.name);
  const fitting = Object.keys(roots)
    .map((prefix) => ({ prefix, head: partsOf(prefix) }))
    .filter(({ head }) => head.every((part, i) => parts[i] === part))
    .sort((a, b) => b.head.length - a.head.length)[0];
  if (fitting === undefined) return content;
  return { ...content, path: path.join(roots[fitting.prefix]!, ...parts.slice(fitting.head.length)) };
}

/** Beginnings that no path has: most often misspelt. */
export function unusedRoots(names: Iterable<string>, roots: ImageRoots): string[] {
  const unused = new Map(Object.keys(roots).map((prefix) => [prefix, partsOf(prefix)]));
  for (const name of names) {
    if (unused.size === 0) break;
    const parts = partsOf(name);
    for (const [prefix, head] of unused) if (head.every((part, i) => parts[i] === part)) unused.delete(prefix);
  }
  return [...unused.keys()];
}

export function isThere(content: ImageContent): boolean {
  return content.kind === 'bytes' || existsSync(content.path);
}

/**
 * The content with the file that is there where the listed one is not: with its ending in other case (`.JPG`), or one folder of
 * the same name further down, as some copies unpack (`cars_train/cars_train`). Unchanged where neither is.
 */
export function asUnpacked(content: ImageContent): ImageContent {
  if (isThere(content) || content.kind === 'bytes') return content;
  const { dir, name, ext } = path.parse(content.path);
  const folders = [dir, path.join(dir, path.basename(dir))];
  const endings = [ext, ext.toUpperCase(), ext.toLowerCase()];
  const files = folders.flatMap((folder) => endings.map((ending) => path.join(folder, `${name}${ending}`)));
  const found = files.find((file) => existsSync(file));
  return found === undefined ? content : { ...content, path: found };
}

/** The path under which an artifact keeps the image: within `images/`, whatever the list calls it. */
export function keptName(content: ImageContent): string {
  return ['images', ...partsOf(content.name)].join('/');
}

function partsOf(name: string): string[] {
  return name
    .split(/[\\/]+/)
    .filter((part) => part !== '' && part !== '.' && part !== '..' && !/^[A-Za-z]:$/.test(part));
}
