/** Files of the user as text. */
import { readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import type { ErrorCode } from '../errors/catalogue.ts';
import { Fr1Error, type SourcePosition } from '../errors/fr1-error.ts';
import { Source } from './source.ts';

/** Bytes that one pipeline file may have: YAML of that size takes about 1 GiB while it is parsed. */
export const MAX_FILE_BYTES = 4 * 2 ** 20;

/** Who names the file, for errors: the command line, or another file at a place. */
export interface NamedBy {
  readonly missing: ErrorCode;
  readonly unreadable: ErrorCode;
  readonly at: SourcePosition;
  readonly hint: string;
}

/**
 * @param file as the user names it
 * @throws Fr1Error with the codes of `named`
 */
export function readSource(file: string, absolute: string, named: NamedBy): Source {
  const fail = (code: ErrorCode, message: string, hint?: string, cause?: unknown) =>
    new Fr1Error(code, message, { at: named.at, hint, cause });
  let bytes: Uint8Array;
  try {
    const stats = statSync(absolute);
    if (stats.isDirectory()) throw fail(named.unreadable, `${file} is a folder`, 'name the pipeline file in it');
    if (!stats.isFile()) throw fail(named.unreadable, `${file} is not a regular file`);
    if (stats.size > MAX_FILE_BYTES) {
      const mebibytes = Math.ceil(stats.size / 2 ** 20);
      throw fail(named.unreadable, `${file} has ${mebibytes} MiB; a pipeline has at most ${MAX_FILE_BYTES / 2 ** 20}`);
    }
    bytes = readFileSync(absolute);
  } catch (cause) {
    if (cause instanceof Fr1Error) throw cause;
    const { code, message } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR')
      throw fail(named.missing, `there is no file ${file}`, named.hint, cause);
    throw fail(named.unreadable, `${file} cannot be read: ${message}`, undefined, cause);
  }
  try {
    const text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    return new Source(file, text, path.dirname(absolute));
  } catch (cause) {
    throw fail(named.unreadable, `${file} is not UTF-8 text`, 'save the file in the encoding UTF-8', cause);
  }
}
