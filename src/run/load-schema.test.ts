import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { loadStageSchema } from './load-schema.ts';

const SCHEMA = { type: 'object', properties: { count: { type: 'integer' } }, additionalProperties: false };

let root: string;
beforeEach(() => {
  root = mkdtempSync(path.join(tmpdir(), 'fr1 schema '));
});
afterEach(() => {
  rmSync(root, { recursive: true });
});

function write(place: string, text: string): void {
  const file = path.join(root, place);
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, text);
}

const load = (stage: string) => loadStageSchema(pathToFileURL(path.join(root, stage)).href);

describe('loadStageSchema()', () => {
  it('reads the schema beside a stage of the source tree', () => {
    write('stages/birds/schema.json', JSON.stringify(SCHEMA));
    expect(load('stages/birds/stage.ts')).toEqual(SCHEMA);
  });

  it('reads the schema of the source tree for a stage of dist', () => {
    write('stages/birds/schema.json', JSON.stringify(SCHEMA));
    expect(load('dist/stages/birds/stage.js')).toEqual(SCHEMA);
  });

  it('is not misled by a folder named dist above the package', () => {
    write('dist/package/stages/birds/schema.json', JSON.stringify(SCHEMA));
    expect(load('dist/package/dist/stages/birds/stage.js')).toEqual(SCHEMA);
  });

  it.each([
    ['there is none', undefined],
    ['it is not JSON', '{'],
    ['it is not an object', 'null'],
    ['it allows other properties', JSON.stringify({ ...SCHEMA, additionalProperties: true })],
    ['it has no properties', JSON.stringify({ type: 'object', additionalProperties: false })],
  ])('fails when %s', (_what, text) => {
    if (text !== undefined) write('stages/birds/schema.json', text);
    expect(() => load('stages/birds/stage.ts')).toThrowError(expect.objectContaining({ code: 'STAGE_SCHEMA_INVALID' }));
  });
});
