/** JSON objects in files of model folders: read with the file named in every error, replaced as a whole. */
import { readFileSync } from 'node:fs';
import { open, rename } from 'node:fs/promises';
import { Fr1Error, type SourcePosition } from '../../errors/fr1-error.ts';
import { isRecord } from '../models/qwen2_5_vl/config.ts';

/** @throws CHECKPOINT_UNREADABLE when the file is missing or holds no JSON object */
export function readJsonObject(path: string): Record<string, unknown> {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    throw new Fr1Error('CHECKPOINT_UNREADABLE', `${path} cannot be read: ${messageOf(cause)}`, { cause });
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new Fr1Error('CHECKPOINT_UNREADABLE', `${path} is not JSON: ${messageOf(cause)}`, { cause });
  }
  if (!isRecord(json)) throw new Fr1Error('CHECKPOINT_UNREADABLE', `${path} is not a JSON object`);
  return json;
}

/** Where a key first stands in a file of {@link readJsonObject}. */
export function keyPosition(path: string, key: string): SourcePosition {
  const text = readFileSync(path, 'utf8');
  const written = JSON.stringify(key);
  const start = Math.max(0, text.search(new RegExp(`${written}\\s*:`)));
  const before = text.slice(0, start).split('\n');
  const col = before.at(-1)!.length + 1;
  const lineText = text.split('\n')[before.length - 1]!;
  return { file: path, line: before.length, col, endCol: col + written.length, lineText };
}

export function messageOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}

/** Writes to a temporary file that takes the place of `path`. */
export async function writeJson(path: string, value: unknown): Promise<void> {
  const temporary = `${path}.${process.pid}.tmp`;
  const file = await open(temporary, 'w');
  try {
    await file.writeFile(`${JSON.stringify(value, null, 2)}\n`);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, path);
}
