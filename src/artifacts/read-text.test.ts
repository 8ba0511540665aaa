import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { temporaryFolder } from '../../test/helpers/temporary-folder.ts';
import { readText } from './read-text.ts';

async function fileOf(content: string | Uint8Array): Promise<string> {
  const file = path.join(await temporaryFolder(), 'a.txt');
  writeFileSync(file, content);
  return file;
}

describe('readText()', () => {
  it('reads UTF-8 with and without a byte order mark', async () => {
    expect(await readText(await fileOf('größe\r\n'))).toBe('größe\r\n');
    expect(await readText(await fileOf('\uFEFF{"a": 1}'))).toBe('{"a": 1}');
    expect(await readText(await fileOf(''))).toBe('');
  });

  it('names the line that is in another encoding', async () => {
    const latin1 = await fileOf(Buffer.from('Robin\nGrünfink\nWren\n', 'latin1'));
    await expect(readText(latin1)).rejects.toMatchObject({ code: 'DATA_UNREADABLE', at: { file: latin1, line: 2 } });
    const utf16 = await fileOf(Buffer.from('\uFEFFRobin\n', 'utf16le'));
    await expect(readText(utf16)).rejects.toMatchObject({ code: 'DATA_UNREADABLE', at: { line: 1 } });
  });

  it('says that a file is missing', async () => {
    await expect(readText('/no/such/file')).rejects.toMatchObject({ code: 'DATA_UNREADABLE' });
  });
});
