import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { callCli } from '../../test/helpers/cli.ts';
import { temporaryFolder } from '../../test/helpers/temporary-folder.ts';
import { Fr1Error, Fr1Errors } from '../errors/fr1-error.ts';
import { errorAnnotations } from './github.ts';

let folder: string;
let env: Record<string, string>;
beforeEach(async () => {
  folder = await temporaryFolder();
  const extra = new URL('../../test/helpers/fake-stages.js', import.meta.url).pathname;
  env = {
    GITHUB_ACTIONS: 'true',
    GITHUB_WORKSPACE: folder,
    GITHUB_STEP_SUMMARY: join(folder, 'summary.md'),
    FR1_EXTRA_STAGES: extra,
  };
});

async function run(yaml: string) {
  await writeFile(join(folder, 'p.yaml'), yaml);
  return callCli(folder, ['run', 'p.yaml'], { env });
}

describe('errorAnnotations()', () => {
  it('gives each error one line at its place, with what could be a command escaped', () => {
    const at = { file: 'a,b.yaml', line: 3, col: 5, endCol: 9 };
    const error = new Fr1Error('KEY_UNKNOWN', '100 % wrong\n::stop-commands::x', { at, hint: 'do not' });
    expect(errorAnnotations(new Fr1Errors([error, error]), (path) => path)).toEqual(
      Array(2).fill(
        '::error file=a%2Cb.yaml,line=3,col=5,endColumn=9,title=KEY_UNKNOWN::100 %25 wrong%0A::stop-commands::x%0Ahint: do not',
      ),
    );
  });
});

describe('fr1 on GitHub Actions', () => {
  it('marks a wrong line of the pipeline', async () => {
    const { stderr, exitCode } = await run('stages:\n  a: { uses: fake-write, with: { txt: one } }\n');
    expect(exitCode).toBe(2);
    expect(stderr).toMatch(/^::error file=p\.yaml,line=2,col=34,endColumn=37,title=KEY_UNKNOWN::/m);
  });

  it('tells a missed expectation and writes the summary', async () => {
    const { stderr, exitCode } = await run(
      'name: "a|b"\nstages: { a: { uses: fake-write, expect: { score: { atLeast: 0.9 } } } }',
    );
    expect(exitCode).toBe(1);
    expect(stderr).toContain('does not meet its expectation::expected score at least 0.9, got 0.5000');
    const summary = await readFile(env['GITHUB_STEP_SUMMARY']!, 'utf8');
    expect(summary).toContain('## fr1: a&#124;b: failed');
    expect(summary).toContain('- a: expected score at least 0.9, got 0.5000 &#91;0.4000, 0.6000&#93;');
    expect(summary).toContain('| a | fake-write | ran |');
    expect(summary).toContain('| text | score |\n| --- | --- |\n| hello | 0.5 |');
  });

  it('says nothing of the kind elsewhere', async () => {
    env = { FR1_EXTRA_STAGES: env['FR1_EXTRA_STAGES']! };
    expect((await run('stages: { a: { uses: fake-fail } }')).stderr).not.toContain('::error');
  });
});
