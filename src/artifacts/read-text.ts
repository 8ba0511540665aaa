/** Files of the user: bytes, or text in UTF-8 with or without a byte order mark. */
import { readFile } from 'node:fs/promises';
import { Fr1Error } from '../errors/fr1-error.ts';

const LINE_BREAK = 10;

/** @throws DATA_UNREADABLE when the file cannot be read */
export async function readBytes(file: string): Promise<Uint8Array> {
  try {
    return await readFile(file);
  } catch (cause) {
    throw new Fr1Error('DATA_UNREADABLE', `cannot read ${file}: ${(cause as Error).message}`, { cause });
  }
}

/**
 * The text of a file without its byte order mark.
 *
 * @throws DATA_UNREADABLE when the file cannot be read, or naming its first line that is not UTF-8
 */
export async function readText(file: string): Promise<string> {
  const bytes = await readBytes(file);
  const text = decoded(bytes);
  if (text !== null) return text;
  throw new Fr1Error('DATA_UNREADABLE', `${file} is no UTF-8 text`, {
    at: { file, line: firstWrongLine(bytes), col: 1 },
    hint: 'save it as UTF-8, e.g. `iconv -f LATIN1 -t UTF-8`; UTF-16, as Windows calls "Unicode", is not read either',
  });
}

function decoded(bytes: Uint8Array): string | null {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    return null;
  }
}

/** From 1. */
function firstWrongLine(bytes: Uint8Array): number {
  let line = 1;
  for (let from = 0; from < bytes.length; line++) {
    const end = bytes.indexOf(LINE_BREAK, from);
    if (decoded(bytes.subarray(from, end === -1 ? bytes.length : end)) === null) return line;
    if (end === -1) break;
    from = end + 1;
  }
  return line;
}
