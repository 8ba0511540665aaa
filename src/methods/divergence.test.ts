import { readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { DIVERGENCES, type Divergence, divergenceDocs } from './divergence.ts';
import { METHOD_SETS } from './presets.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const ENTRIES: [string, Divergence][] = Object.entries(DIVERGENCES);

/** Whether a file has a test, or a group of them, of this title. */
function hasTest(file: string, title: string): boolean {
  const escaped = title.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&');
  return new RegExp(`\\(\\s*['"]${escaped}['"],`).test(readFileSync(path.join(ROOT, file), 'utf8'));
}

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
    expect(entry.tests.filter(([file, title]) => !hasTest(file, title))).toEqual([]);
  });

  // The quirks that the specification of the released code wants mended by default.
  it('marks the flaws', () => {
    const flaws = ENTRIES.filter(([, { isFlaw }]) => isFlaw).map(([id]) => id);
    expect(flaws).toEqual(['Q1', 'Q4', 'Q7', 'Q9', 'Q19', 'Q21', 'Q22', 'Q23', 'Q28', 'Q29', 'Q32', 'Q33']);
  });

  it.each(ENTRIES.filter(([, { isFlaw, treatment }]) => isFlaw || treatment === 'switch'))(
    '%s has a test that shows what the released code does beside what fr1 does',
    (id, entry) => {
      const titles = 'tests' in entry ? entry.tests.map(([, title]) => title) : [];
      const both = titles.filter(
        (title) => title.startsWith(`${id}: `) && / (or|and|where) .*\breleased\b/.test(title),
      );
      expect(both, titles.join('\n')).not.toEqual([]);
    },
  );
});

describe('divergenceDocs()', () => {
  // `node scripts/generate-docs.mjs` writes the file anew.
  it('is what docs/divergence.md holds', async () => {
    await expect(divergenceDocs(DIVERGENCES)).toMatchFileSnapshot('../../docs/divergence.md');
  });
});
