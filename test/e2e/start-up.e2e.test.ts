/** What a command loads before it answers: start-up is mostly the loading of modules, and a count is steadier than a time. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { startCli } from '../helpers/cli.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const RECORDER = new URL('../helpers/record-modules.js', import.meta.url).href;

/** Parts of the engine that say which options are right; none of them imports another part. */
const LIGHT = ['adapters/choice', 'adapters/target-modules', 'models/qwen2_5_vl/parameters', 'session/precision'].map(
  (name) => `dist/src/engine/${name}.js`,
);

/** Modules of fr1 by path, packages by name, as a command of the built CLI loads them. */
async function modulesOf(argv: readonly string[]): Promise<{ own: string[]; packages: Set<string> }> {
  const list = join(await temporaryFolder(), 'modules.txt');
  const env = { FR1_TEST_MODULES: list, NODE_OPTIONS: `--import=${RECORDER}` };
  const { exitCode, stderr } = await startCli(ROOT, argv, { env });
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' });
  const paths = (await readFile(list, 'utf8'))
    .split('\n')
    .filter((url) => url.startsWith('file:'))
    .map((url) => fileURLToPath(url));
  return {
    own: paths.filter((path) => path.startsWith(join(ROOT, 'dist/'))).map((path) => path.slice(ROOT.length)),
    packages: new Set(paths.flatMap((path) => /.*\/node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(path)?.[1] ?? [])),
  };
}

describe('start-up', () => {
  it('of `fr1 plan` loads stages, and nothing that computes', async () => {
    const workspace = await temporaryFolder();
    const { own, packages } = await modulesOf(['plan', 'pipelines/quickstart.yaml', '-w', workspace]);
    expect(own).toContain('dist/stages/tapo/stage.js');
    expect(own.filter((path) => path.endsWith('/run.js'))).toEqual([]);
    expect(own.filter((path) => path.startsWith('dist/src/engine/') && !LIGHT.includes(path))).toEqual([]);
    expect([...packages].sort()).toEqual(['ajv', 'commander', 'fastest-levenshtein', 'yaml']);
    expect(own.length).toBeLessThan(125);
  });

  it('of `fr1 --help` loads no command', async () => {
    const { own, packages } = await modulesOf(['--help']);
    expect(own.filter((path) => path.endsWith('-command.js') || path.startsWith('dist/stages/'))).toEqual([]);
    expect([...packages]).toEqual(['commander']);
  });
});
