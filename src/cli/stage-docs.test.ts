import { describe, expect, it } from 'vitest';
import { STAGES } from '../../stages/index.ts';
import { stageDocs } from './stage-docs.ts';

describe('stageDocs()', () => {
  // `npm run docs` writes the file anew.
  it('is what docs/stages.md holds', async () => {
    await expect(stageDocs(STAGES)).toMatchFileSnapshot('../../docs/stages.md');
  });

  it('has every option of every stage with a description', () => {
    const text = stageDocs(STAGES);
    for (const { kind, schema } of STAGES) {
      expect(text).toContain(`\n## ${kind}\n`);
      for (const name of Object.keys(schema.properties))
        expect(text).toMatch(new RegExp(`\\| \`${name}\` \\|.*\\w.* \\|$`, 'm'));
    }
  });
});
