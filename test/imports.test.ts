/** Imports point one way: cli -> ui, run -> plan -> config -> errors, and stages -> engine. Tests may import anything. */
import { readdir, readFile } from 'node:fs/promises';
import { dirname, join, posix, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const ROOT = fileURLToPath(new URL('..', import.meta.url));

/** What the files below a folder may import from the others; they may always import each other. */
const ALLOWED: Readonly<Record<string, readonly string[]>> = {
  'src/errors': [],
  'src/engine': ['src/errors'],
  'src/artifacts': ['src/errors'],
  'src/datasets': ['src/errors', 'src/artifacts', 'src/engine'],
  'src/worlds': ['src/errors', 'src/engine', 'src/tokenizer-training'],
  'src/methods': ['src/errors', 'src/engine'],
  'src/tokenizer-training': ['src/errors'],
  'src/locks': ['src/errors', 'src/artifacts/durable-fs.ts'],
  'src/pool': ['src/errors', 'src/engine', 'src/locks'],
  'src/config': ['src/errors', 'src/artifacts', 'src/run/stage-api.ts'],
  'src/plan': ['src/errors', 'src/config', 'src/run/stage-api.ts'],
  'src/run': ['src/errors', 'src/artifacts', 'src/locks', 'src/config', 'src/plan', 'src/pool/lease.ts'],
  'src/ui': ['src/errors', 'src/run'],
  'src/plugin-api': ['src/errors', 'src/artifacts', 'src/config', 'src/plan', 'src/run', 'src/pool'],
  'src/cli': [
    'src/errors',
    'src/artifacts',
    'src/config',
    'src/engine',
    'src/plan',
    'src/run',
    'src/pool',
    'src/ui',
    'src/plugin-api',
    'stages/index.ts',
  ],
  stages: [
    'src/errors',
    'src/artifacts',
    'src/engine',
    'src/datasets',
    'src/worlds',
    'src/methods',
    'src/tokenizer-training',
    'src/pool/lease.ts',
    'src/pool/session-source.ts',
    'src/run/stage-api.ts',
    'src/run/check-rows.ts',
    'src/run/load-schema.ts',
    'src/run/run-command.ts',
  ],
};

interface Import {
  /** Relative to the repository, with `/`. */
  readonly from: string;
  readonly to: string;
}

async function importsBelow(folder: string): Promise<Import[]> {
  const names = await readdir(join(ROOT, folder), { recursive: true });
  const files = names
    .map((name) => `${folder}/${name.split(sep).join('/')}`)
    .filter((name) => name.endsWith('.ts') && !/\.test\.ts$|\/testing\/|\.d\.ts$/.test(name));
  const found: Import[] = [];
  for (const from of files) {
    const text = await readFile(join(ROOT, from), 'utf8');
    for (const [, target] of text.matchAll(/(?:from|import\()\s*'(\.[^']+)'/g)) {
      found.push({ from, to: posix.join(dirname(from).split(sep).join('/'), target!) });
    }
  }
  return found;
}

const isWithin = (path: string, place: string) => path === place || path.startsWith(`${place}/`);

describe('imports', () => {
  it.each(Object.entries(ALLOWED))('below %s point to what is below it', async (folder, allowed) => {
    const imports = await importsBelow(folder);
    expect(imports.length).toBeGreaterThan(0);
    const wrong = imports.filter(({ to }) => ![folder, ...allowed].some((place) => isWithin(to, place)));
    expect(wrong.map(({ from, to }) => `${from} -> ${to}`)).toEqual([]);
  });

  it('of a stage do not reach another stage', async () => {
    const stageOf = (path: string) => /^stages\/([^/]+)\//.exec(path)?.[1];
    const wrong = (await importsBelow('stages')).filter(
      ({ from, to }) => stageOf(from) !== undefined && stageOf(to) !== undefined && stageOf(from) !== stageOf(to),
    );
    expect(wrong.map(({ from, to }) => `${from} -> ${to}`)).toEqual([]);
  });

  it('cover every folder of src', async () => {
    const entries = await readdir(join(ROOT, 'src'), { withFileTypes: true });
    const folders = entries.filter((entry) => entry.isDirectory()).map((entry) => `src/${entry.name}`);
    const filled = [];
    for (const folder of folders) if ((await importsBelow(folder)).length > 0) filled.push(folder);
    expect(filled.filter((folder) => !(folder in ALLOWED))).toEqual([]);
  });
});
