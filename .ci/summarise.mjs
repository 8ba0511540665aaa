/**
 * Prints `N passed, N failed[, N skipped]` as the last line and exits with 1 unless everything passed.
 *
 * node .ci/summarise.mjs <result file of vitest's JSON reporter> [names of failed steps ...]
 *
 * NOTE: vitest's own counters say "0 failed" where a file does not load, a hook fails or a worker dies, so every file is
 * looked at, and a failed step counts even where the file names no failure.
 */
import { readFileSync } from 'node:fs';
import path from 'node:path';

const [resultFile, ...failedSteps] = process.argv.slice(2);
const { passed, failed, skipped, problems } = count(readResults(resultFile), failedSteps);
for (const problem of problems) console.log(`failed: ${problem}`);
console.log(`${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`);
process.exitCode = failed > 0 ? 1 : 0;

/** The files of the report, or null when there is no whole one. */
function readResults(file) {
  try {
    const { testResults } = JSON.parse(readFileSync(file, 'utf8'));
    return Array.isArray(testResults) ? testResults : null;
  } catch (error) {
    console.log(`the test report cannot be read: ${error.message}`);
    return null;
  }
}

function count(files, failedSteps) {
  const problems = failedSteps.filter((step) => step !== 'tests');
  let passed = 0;
  let skipped = 0;
  let failedTests = 0;
  for (const { name, status, message, assertionResults = [] } of files ?? []) {
    const failedHere = assertionResults.filter((test) => test.status === 'failed');
    passed += assertionResults.filter((test) => test.status === 'passed').length;
    skipped += assertionResults.filter((test) => !['passed', 'failed'].includes(test.status)).length;
    failedTests += failedHere.length;
    for (const test of failedHere) problems.push(`${place(name)}: ${test.fullName}`);
    if (status === 'failed' && failedHere.length === 0) {
      failedTests++;
      problems.push(`${place(name)}: ${message || 'the file failed outside its tests'}`);
    }
  }
  if (files === null) problems.push('tests: no report');
  else {
    const isEndToEnd = ({ name }) => name.endsWith('.e2e.test.ts');
    if (!files.some(isEndToEnd)) problems.push('tests: no end-to-end test ran');
    if (files.every(isEndToEnd)) problems.push('tests: no unit test ran');
  }
  const unexplained = failedSteps.includes('tests') && failedTests === 0 && files !== null;
  if (unexplained) problems.push('tests: the run failed although no test did');
  return { passed, failed: problems.length, skipped, problems };
}

function place(file) {
  return path.relative(process.cwd(), file);
}
