import { describe, expect, it } from 'vitest';
import { STAGES } from '../../stages/index.ts';
import { schemaFaults } from './schema-faults.ts';

const withOption = (option: unknown, more: object = {}) => ({
  type: 'object',
  properties: { steps: option },
  additionalProperties: false,
  ...more,
});

describe('schemaFaults()', () => {
  it.each(STAGES.map(({ kind, schema }) => [kind, schema] as const))('finds none in the stage %s', (_kind, schema) => {
    expect(schemaFaults(schema)).toEqual([]);
  });

  it('finds none where a schema uses what fr1 adds', () => {
    const option = { artifact: ['checkpoint'], description: 'The model.', unit: 'bytes' };
    expect(schemaFaults(withOption(option, { $schema: 'https://json-schema.org/draft/2020-12/schema' }))).toEqual([]);
    const defs = { $defs: { count: { type: 'integer', minimum: 1 } } };
    expect(schemaFaults(withOption({ $ref: '#/$defs/count' }, defs))).toEqual([]);
  });

  it.each([
    [withOption({ type: 'strng' }), 'at /properties/steps/type: "strng" is no type (did you mean "string"?)'],
    [withOption({ type: ['integer', 'nul'] }), 'at /properties/steps/type/1: "nul" is no type (did you mean "null"?)'],
    [withOption({}, { required: 'steps' }), 'at /required: must be array, not "steps"'],
    [withOption({ minimum: '1' }), 'at /properties/steps/minimum: must be number, not "1"'],
    [withOption({ minLength: -1 }), 'at /properties/steps/minLength: must be >= 0, not -1'],
    [withOption('integer'), 'at /properties/steps: must be object,boolean, not "integer"'],
    [withOption({ items: { enum: 'a' } }), 'at /properties/steps/items/enum: must be array, not "a"'],
    [withOption({ items: { minimun: 1 } }), 'at /properties/steps/items: unknown keyword: "minimun"'],
    [withOption({ artifact: ['image'] }), 'at /properties/steps: keyword "artifact" value is invalid'],
    [withOption({ pattern: '(' }), 'at /properties/steps'],
    [withOption({ anyOf: [{}, { $ref: '#/$defs/gone' }] }), "at /properties/steps/anyOf/1: can't resolve reference"],
  ])('tells place and cause: %j', (schema, fault) => {
    expect(schemaFaults(schema)).toEqual([expect.stringContaining(fault)]);
  });

  it('tells several faults at once', () => {
    expect(schemaFaults(withOption({ type: 'int', minimum: '1' }, { required: 1 }))).toHaveLength(3);
  });
});
