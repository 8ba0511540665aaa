import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { STAGES } from '../../stages/index.ts';
import { editorSchema } from './editor-schema.ts';
import { STAGE_KINDS } from './testing/stage-kinds.ts';

const read = (place: string) => readFileSync(fileURLToPath(new URL(`../../${place}`, import.meta.url)), 'utf8');
const DOCUMENT = JSON.parse(read('schemas/pipeline.schema.json')) as Record<string, unknown>;

const validate = new Ajv2020({ strict: true, strictTypes: false, strictRequired: false }).compile(
  editorSchema(DOCUMENT, STAGE_KINDS),
);

const pipelineWith = (stage: object) => ({ stages: { it: stage } });

describe('editorSchema()', () => {
  // `node scripts/generate-docs.mjs` writes the file anew.
  it('is what schemas/fr1.schema.json holds', async () => {
    const text = `${JSON.stringify(editorSchema(DOCUMENT, STAGES), null, 2)}\n`;
    await expect(text).toMatchFileSnapshot('../../schemas/fr1.schema.json');
  });

  it('accepts a pipeline as written, with its expressions', () => {
    const document: unknown = parse(read('test/fixtures/pipelines/valid/pipeline.yaml'));
    expect(validate(document), JSON.stringify(validate.errors)).toBe(true);
  });

  it.each([
    ['an expression for a number', { uses: 'source', with: { count: '${{ vars.n }}' } }],
    ['an expression for a choice', { uses: 'source', with: { colour: '${{ vars.c }}' } }],
    ['an expression for a list', { uses: 'source', with: { from: '${{ vars.list }}' } }],
    ['an expression for the kind', { uses: '${{ vars.kind }}' }],
    ['an artifact in a list', { uses: 'source', with: { from: ['${{ stages.a.outputs.b }}', './folder'] } }],
    ['a stage without required options', { uses: 'source' }],
    ['an alternative', { uses: 'train', with: { model: '.', learningRate: 1, teacher: { kind: 'truth', noise: 0 } } }],
    ['a bound by expression', { uses: 'source', expect: { any: { atLeast: '${{ vars.x }}' } } }],
  ])('accepts %s', (_what, stage) => {
    expect(validate(pipelineWith(stage)), JSON.stringify(validate.errors)).toBe(true);
  });

  it.each([
    ['an unknown key', { uses: 'source', wiht: {} }],
    ['an unknown kind', { uses: 'sauce' }],
    ['an unknown option', { uses: 'source', with: { cuont: 1 } }],
    ['text for a number', { uses: 'source', with: { count: 'three' } }],
    ['a number out of range', { uses: 'source', with: { count: 0 } }],
    ['a number for an artifact', { uses: 'merge', with: { models: { a: 3 } } }],
    ['a missing option', { uses: 'train', with: { model: '.' } }],
    ['missing options altogether', { uses: 'train' }],
    ['an unknown metric', { uses: 'train', with: { model: '.', learningRate: 1 }, expect: { speed: { atLeast: 1 } } }],
  ])('rejects %s', (_what, stage) => {
    expect(validate(pipelineWith(stage))).toBe(false);
  });
});
