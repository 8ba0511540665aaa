/**
 * Writes the generated files anew: docs/errors.md, docs/divergence.md, docs/stages.md, schemas/fr1.schema.json and the snapshot of the plugin API. The same tests fail when one is stale.
 *
 * node scripts/generate-docs.mjs
 */
import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const vitest = path.join(path.dirname(createRequire(import.meta.url).resolve('vitest/package.json')), 'vitest.mjs');
const tests = [
  'src/errors/error-docs.test.ts',
  'src/methods/divergence.test.ts',
  'src/config/editor-schema.test.ts',
  'src/plugin-api/api-snapshot.test.ts',
  'src/cli/stage-docs.test.ts',
];
const { status } = spawnSync(process.execPath, [vitest, 'run', '--update', '--project', 'unit', ...tests], {
  cwd: root,
  stdio: 'inherit',
});
process.exitCode = status ?? 1;
