/**
 * Real data that is not part of the repository, because its licences forbid it: set FR1_TEST_DATA to a folder with it. Tests
 * that use it skip where it is absent.
 */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const BESIDE = fileURLToPath(new URL('../../../shared/data', import.meta.url));

/** The folder, or undefined where it is absent. @default `shared/data` beside the repository */
export const SHARED_DATA: string | undefined = [process.env['FR1_TEST_DATA'], BESIDE].find(
  (folder) => folder !== undefined && existsSync(folder),
);

export function sharedData(...parts: readonly string[]): string {
  if (SHARED_DATA === undefined) throw new Error('this test needs FR1_TEST_DATA');
  return path.join(SHARED_DATA, ...parts);
}
