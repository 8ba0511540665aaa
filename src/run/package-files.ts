/** Files that fr1's package brings along, found from the source tree and from dist alike. */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

/** Absolute path of a file or folder of the package, e.g. `templates/stage`. */
export function packagePath(relative: string): string {
  for (let folder = path.dirname(fileURLToPath(import.meta.url)); ; folder = path.dirname(folder)) {
    if (existsSync(path.join(folder, 'package.json'))) return path.join(folder, relative);
    if (folder === path.dirname(folder)) throw new Error(`the package of fr1 has lost its package.json`);
  }
}
