import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';

const SCRIPT = fileURLToPath(new URL('../.ci/summarise.mjs', import.meta.url));
const folder = mkdtempSync(path.join(tmpdir(), 'fr1-ci-'));
afterAll(() => rmSync(folder, { recursive: true }));

const tests = (...statuses: string[]) => statuses.map((status, i) => ({ status, fullName: `test ${i}` }));
const file = (name: string, assertionResults: object[], status = 'passed') => ({ name, status, assertionResults });
const E2E = file('run.e2e.test.ts', tests('passed'));

/** The last line and the exit code for a report and the steps that failed. */
function summarise(report: string | object, ...failedSteps: string[]) {
  const reportFile = path.join(folder, 'report.json');
  writeFileSync(reportFile, typeof report === 'string' ? report : JSON.stringify({ testResults: report }));
  const { stdout, status } = spawnSync(process.execPath, [SCRIPT, reportFile, ...failedSteps], { encoding: 'utf8' });
  return [stdout.trimEnd().split('\n').at(-1), status];
}

describe('.ci/summarise.mjs', () => {
  it('adds up the tests of all files', () => {
    const unit = file('a.test.ts', tests('passed', 'passed'));
    expect(summarise([unit, E2E])).toEqual(['3 passed, 0 failed', 0]);
    expect(summarise([file('a.test.ts', tests('passed', 'skipped', 'todo')), E2E])).toEqual([
      '2 passed, 0 failed, 2 skipped',
      0,
    ]);
    expect(summarise([file('a.test.ts', tests('passed', 'failed'), 'failed'), E2E], 'tests')).toEqual([
      '2 passed, 1 failed',
      1,
    ]);
  });

  it('counts a file that fails outside its tests', () => {
    expect(summarise([file('a.test.ts', [], 'failed'), E2E], 'tests')).toEqual(['1 passed, 1 failed', 1]);
  });

  it('counts failed steps, and a failed run without a failed test', () => {
    const unit = file('a.test.ts', tests('passed'));
    expect(summarise([unit, E2E], 'types', 'style')).toEqual(['2 passed, 2 failed', 1]);
    expect(summarise([unit, E2E], 'tests')).toEqual(['2 passed, 1 failed', 1]);
  });

  it('fails without a whole report, and when a kind of test is absent', () => {
    expect(summarise('{"testResults": [', 'tests')).toEqual(['0 passed, 1 failed', 1]);
    expect(summarise('')).toEqual(['0 passed, 1 failed', 1]);
    expect(summarise([])).toEqual(['0 passed, 2 failed', 1]);
    expect(summarise([file('a.test.ts', tests('passed'))])).toEqual(['1 passed, 1 failed', 1]);
  });
});
