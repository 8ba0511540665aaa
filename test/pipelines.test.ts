/** The pipelines of the repository: nothing is wrong with them but that inputs may be missing, and each says where these come from. */
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { callCli } from './helpers/cli.ts';

const FOLDER = fileURLToPath(new URL('../pipelines', import.meta.url));
const FILES = readdirSync(FOLDER).filter((name) => name.endsWith('.yaml'));

describe('pipelines', () => {
  it.each(FILES)('%s opens with what it does and is valid', async (name) => {
    const text = readFileSync(path.join(FOLDER, name), 'utf8');
    expect(text.startsWith('# yaml-language-server: $schema=')).toBe(true);
    expect(text.split('\n').slice(1, 4).join(' ')).toMatch(/# \w+/);
    const { exitCode, stderr } = await callCli(FOLDER, ['check', name]);
    if (exitCode === 0) return;
    const codes = [...stderr.matchAll(/error\[(\w+)\]/g)].map(([, code]) => code);
    expect(new Set(codes), stderr).toEqual(new Set(['INPUT_MISSING']));
    const hints = stderr.split('\n').filter((line) => line.startsWith('  hint: '));
    expect(hints).toHaveLength(codes.length);
    for (const hint of hints) expect(hint).not.toMatch(/^ {2}hint: (paths|give)/);
  });
});
