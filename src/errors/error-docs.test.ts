import { describe, expect, it } from 'vitest';
import { CATALOGUE } from './catalogue.ts';
import { errorDocs } from './error-docs.ts';

describe('errorDocs()', () => {
  // `node scripts/generate-docs.mjs` writes the file anew.
  it('is what docs/errors.md holds', async () => {
    await expect(errorDocs(CATALOGUE)).toMatchFileSnapshot('../../docs/errors.md');
  });

  it('has one row per code, with its exit code', () => {
    const rows = errorDocs(CATALOGUE)
      .split('\n')
      .filter((line) => line.startsWith('| `'));
    expect(rows).toHaveLength(Object.keys(CATALOGUE).length);
    for (const [code, { exit, explanation }] of Object.entries(CATALOGUE)) {
      expect(rows).toContain(`| \`${code}\` | ${exit} | ${explanation} |`);
    }
  });
});

describe('CATALOGUE', () => {
  it.each(Object.entries(CATALOGUE))('explains %s in whole sentences', (code, { explanation }) => {
    expect(code).toMatch(/^[A-Z][A-Z0-9]*(_[A-Z0-9]+)+$/);
    expect(explanation).toMatch(/^[`A-Za-z-].*\.$/);
  });
});
