/** Paths of committed fixtures. */

import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const FIXTURES = fileURLToPath(new URL('../fixtures', import.meta.url));

export function fixture(...parts: readonly string[]): string {
  return join(FIXTURES, ...parts);
}
