import { readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { DIVERGENCES, type Divergence, divergenceDocs } from './divergence.ts';
import { METHOD_SETS } from './presets.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const ENTRIES: [string, Divergence][] = Object.entries(DIVERGENCES);

describe('DIVERGENCES', () => {
  it('has Q1 to Q35 in order', () => {
    expect(Object.keys(DIVERGENCES)).toEqual(Array.from({ length: 35 }, (_, i) => `Q${i + 1}`));
  });

  it('names every switch', () => {
    const named = ENTRIES.flatMap(([, entry]) => (entry.treatment === 'switch' ? entry.switches : []));
    expect([...new Set(named)].sort()).toEqual(Object.keys(METHOD_SETS.sound).sort());
  });

  it.each(ENTRIES.filter(([, entry]) => 'tests' in entry))('%s is shown by tests that exist', (_, entry) => {
    if (!('tests' in entry)) return;
    expect(entry.tests.length).toBeGreaterThan(0);
    for (const [file, title] of entry.tests) expect(readFileSync(path.join(ROOT, file), 'utf8')).toContain(title);
  });
});

describe('divergenceDocs()', () => {
  // `node scripts/generate-docs.mjs` writes the file anew.
  it('is what docs/divergence.md holds', async () => {
    await expect(divergenceDocs(DIVERGENCES)).toMatchFileSnapshot('../../docs/divergence.md');
  });
});
