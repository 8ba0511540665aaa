/** Files of a kind in a folder of the user. */
import { readdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { Fr1Error } from '../errors/fr1-error.ts';

/** What image files end in. */
export const IMAGE_EXTENSIONS: ReadonlySet<string> = new Set([
  '.jpg',
  '.jpeg',
  '.png',
  '.webp',
  '.gif',
  '.tif',
  '.tiff',
  '.avif',
]);

/**
 * The file itself, or all files below the folder with one of the extensions, sorted by path. Names that begin with a dot
 * are passed over.
 *
 * @throws DATA_UNREADABLE when there is none
 */
export function filesBelow(root: string, extensions: ReadonlySet<string>): string[] {
  const found = walk(root).filter((file) => extensions.has(path.extname(file).toLowerCase()));
  if (found.length === 0) {
    throw new Fr1Error('DATA_UNREADABLE', `${root} holds no file with the ending ${[...extensions].join(', ')}`);
  }
  return found.sort();
}

function walk(place: string): string[] {
  if (statSync(place).isFile()) return [place];
  return readdirSync(place)
    .filter((name) => !name.startsWith('.'))
    .flatMap((name) => walk(path.join(place, name)));
}

/** Which split a file or folder name says, by its first word: `train-00000-of-00001` is `train`. */
export function splitOfName(name: string): 'train' | 'test' | null {
  const word = name.toLowerCase().split(/[^a-z]/)[0]!;
  if (['train', 'training', 'trainval'].includes(word)) return 'train';
  return ['test', 'val', 'valid', 'validation'].includes(word) ? 'test' : null;
}

/** What rows of a file are called by: its path below the root without ending, `-` for `/`; its name where it is the root. */
export function nameBelow(root: string, file: string): string {
  const relative = path.relative(root, file) || path.basename(file);
  return relative
    .slice(0, relative.length - path.extname(relative).length)
    .split(path.sep)
    .join('-');
}
