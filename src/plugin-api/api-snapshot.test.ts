/**
 * The public API, as its declarations: whatever a plugin can reach from `fr1/plugin` and `fr1/plugin/testing`, without
 * comments. A difference is a change for plugins: add to it freely, break it only with a new major version (before 1.0:
 * minor). `npm run docs` writes api-snapshot.txt anew.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { temporaryFolder } from '../../test/helpers/temporary-folder.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const ENTRIES = ['src/plugin-api/plugin', 'src/plugin-api/testing'];
/** Sessions, which may change, and the list of error codes, which grows. */
const LEFT_OUT = /^src\/(engine\/|errors\/catalogue$)/;

/** Every declaration file that an entry reaches, by its place in the source tree. */
function declarations(out: string): Map<string, string> {
  const found = new Map<string, string>();
  const visit = (place: string): void => {
    if (found.has(place) || LEFT_OUT.test(place)) return;
    const text = readFileSync(path.join(out, `${place}.d.ts`), 'utf8');
    found.set(place, text);
    for (const [, target] of text.matchAll(/(?:from |import\()'?"?(\.[^'"]+)\.ts/g)) {
      visit(path.posix.join(path.posix.dirname(place), target!));
    }
  };
  for (const entry of ENTRIES) visit(entry);
  return found;
}

it('is what api-snapshot.txt holds', async () => {
  const out = await temporaryFolder();
  const tsc = path.join(path.dirname(createRequire(import.meta.url).resolve('typescript/package.json')), 'bin/tsc');
  execFileSync(process.execPath, [
    ...[tsc, '-p', path.join(ROOT, 'tsconfig.build.json')],
    ...['--emitDeclarationOnly', '--removeComments', '--sourceMap', 'false', '--outDir', out],
  ]);
  const files = [...declarations(out)].sort(([a], [b]) => (a < b ? -1 : 1));
  expect(files.length).toBeGreaterThan(5);
  const text = files.map(([place, content]) => `--- ${place}.ts\n${content.trim()}\n`).join('\n');
  await expect(text).toMatchFileSnapshot('api-snapshot.txt');
}, 120_000);
