import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { temporaryFolder } from '../../test/helpers/temporary-folder.ts';
import { filesBelow } from './files-below.ts';

describe('filesBelow()', () => {
  it('takes files by their ending, whatever else lies there', async () => {
    const folder = await temporaryFolder();
    mkdirSync(path.join(folder, 'b'));
    for (const name of ['.DS_Store', 'README.md', 'b/2.parquet', '1.PARQUET', '.hidden.parquet']) {
      writeFileSync(path.join(folder, name), '');
    }
    const names = filesBelow(folder, new Set(['.parquet'])).map((file) => path.relative(folder, file));
    expect(names).toEqual(['1.PARQUET', path.join('b', '2.parquet')]);
    expect(() => filesBelow(folder, new Set(['.jsonl']))).toThrow(expect.objectContaining({ code: 'DATA_UNREADABLE' }));
  });
});
