import { describe, expect, expectTypeOf, it } from 'vitest';
import type { Artifact } from '../artifacts/types.ts';
import { defineStage } from './define-stage.ts';
import type { WrittenOptionsOf } from './options-of.ts';

const stage = defineStage({
  kind: 'sharpen',
  summary: 'Sharpens.',
  version: 1,
  schema: {
    type: 'object',
    additionalProperties: false,
    required: ['data', 'rate'],
    properties: {
      data: { artifact: ['image-data', 'eval-data'], description: 'Images.' },
      extra: { type: 'array', items: { artifact: ['files'] }, description: 'More.' },
      rate: { type: 'number', exclusiveMinimum: 0, description: 'Rate.' },
      mode: { enum: ['soft', 'hard'], default: 'soft', description: 'How.' },
      note: { type: 'string', description: 'A text.' },
      limit: { type: ['integer', 'null'], default: null, description: 'At most.' },
      teacher: {
        oneOf: [
          {
            type: 'object',
            additionalProperties: false,
            required: ['kind'],
            properties: { kind: { const: 'truth' }, noise: { type: 'number', default: 0 } },
          },
          {
            type: 'object',
            additionalProperties: false,
            required: ['kind', 'url'],
            properties: { kind: { const: 'service' }, url: { type: 'string' } },
          },
        ],
      },
      weights: { type: 'object', additionalProperties: { type: 'number' }, default: {} },
    },
  },
  outputs: { data: { type: 'image-data', description: 'Sharper images.' } },
  metrics: ['sharpness'],
  cosmeticOptions: ['note'],
  async run({ options, outputs }) {
    expectTypeOf(options.data).toEqualTypeOf<Artifact>();
    expectTypeOf(options.extra).toEqualTypeOf<readonly Artifact[] | undefined>();
    expectTypeOf(options.rate).toEqualTypeOf<number>();
    expectTypeOf(options.mode).toEqualTypeOf<'soft' | 'hard'>();
    expectTypeOf(options.note).toEqualTypeOf<string | undefined>();
    expectTypeOf(options.limit).toEqualTypeOf<number | null>();
    expectTypeOf(options.weights).toEqualTypeOf<Readonly<Record<string, number>>>();
    if (options.teacher?.kind === 'truth') expectTypeOf(options.teacher.noise).toEqualTypeOf<number>();
    else expectTypeOf(options.teacher?.url).toEqualTypeOf<string | undefined>();
    // @ts-expect-error: a misspelt option
    void options.rates;
    // @ts-expect-error: a misspelt output
    void outputs.date;
    expectTypeOf(outputs.data).toEqualTypeOf<string>();
    return { metrics: { sharpness: { value: 1 } } };
  },
});

describe('defineStage()', () => {
  it('types options, outputs and metrics from the definition', () => {
    type Written = WrittenOptionsOf<typeof stage.schema>;
    expectTypeOf<Written>().toMatchTypeOf<{ data: string; rate: number; mode?: 'soft' | 'hard' }>();
    const written: Written = { data: './birds', rate: 1, teacher: { kind: 'truth' } };
    expect(written.rate).toBe(1);
    // @ts-expect-error: a required option is missing
    const incomplete: Written = { rate: 1 };
    expect(incomplete).toBeDefined();
    defineStage({
      ...stage,
      // @ts-expect-error: an option that the schema does not have
      cosmeticOptions: ['notes'],
    });
    defineStage({
      ...stage,
      // @ts-expect-error: a metric that is not declared
      run: async () => ({ metrics: { blur: { value: 1 } } }),
    });
  });

  it('returns the definition as it is', () => {
    expect(stage.kind).toBe('sharpen');
    expect(defineStage(stage)).toBe(stage);
  });
});
