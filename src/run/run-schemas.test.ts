/** The published schemas of run.json and of events against real runs; here, a field that they do not describe fails. */
import { readFile } from 'node:fs/promises';
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js';
import { beforeEach, describe, expect, it } from 'vitest';
import { runPlan, type TestRun } from '../../test/helpers/run-plan.ts';
import { temporaryFolder } from '../../test/helpers/temporary-folder.ts';

type Schema = { readonly [key: string]: unknown };

async function strict(name: string): Promise<ValidateFunction> {
  const schema = JSON.parse(await readFile(new URL(`../../schemas/${name}`, import.meta.url), 'utf8')) as Schema;
  return new Ajv2020({ strict: false, formats: { 'date-time': true } }).compile(closed(schema) as Schema);
}

/** The same schema with no further properties where properties are named. */
function closed(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(closed);
  if (schema === null || typeof schema !== 'object') return schema;
  const copy = Object.fromEntries(Object.entries(schema).map(([key, value]) => [key, closed(value)]));
  const named = (schema as Schema)['type'] === 'object' && 'properties' in schema;
  return named ? { ...copy, additionalProperties: false } : copy;
}

let run: TestRun;
let again: TestRun;
beforeEach(async () => {
  const folder = await temporaryFolder();
  const yaml = `
outputs: { out/result: "\${{ stages.good.outputs.model }}" }
stages:
  good: { uses: fake-count, with: { steps: 2 } }
  bad: { uses: fake-fail, retry: { times: 1, delay: 1ms } }
  after: { uses: fake-write, with: { data: "\${{ stages.bad.outputs.data }}" } }
  missed: { uses: fake-write, expect: { score: { atLeast: 0.9, within: { of: 0.1, tolerance: 0.1 } } } }
  skipped: { uses: fake-write, if: "\${{ false }}" }
  device: { uses: fake-device }
`;
  run = await runPlan(folder, yaml);
  again = await runPlan(folder, yaml.replace('steps: 2', 'steps: 3'));
});

describe('schemas/', () => {
  it('describe every record and every event', async () => {
    const [isRecord, isEvent] = [await strict('run.schema.json'), await strict('events.schema.json')];
    for (const { record, events } of [run, again]) {
      const asStored = (value: unknown): unknown => JSON.parse(JSON.stringify(value));
      isRecord(asStored(record));
      expect(isRecord.errors).toBeNull();
      for (const event of events) {
        isEvent(asStored(event));
        expect(isEvent.errors, event.type).toBeNull();
      }
    }
    expect(new Set([...run.events, ...again.events].map(({ type }) => type)).size).toBeGreaterThan(9);
  });

  it('name every type of event', async () => {
    const source = await readFile(new URL('./events.ts', import.meta.url), 'utf8');
    const types = new Set([...source.matchAll(/type: '([a-z-]+)'/g)].map((match) => match[1]!));
    const schema = JSON.parse(await readFile(new URL('../../schemas/events.schema.json', import.meta.url), 'utf8')) as {
      oneOf: { properties: { type: { const: string } } }[];
    };
    expect(new Set(schema.oneOf.map(({ properties }) => properties.type.const))).toEqual(types);
  });
});
