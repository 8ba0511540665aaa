/** What is wrong with an option schema itself. Only schemas from outside are asked: those of built-in stages are tested. */
import type { ErrorObject } from 'ajv/dist/2020.js';
import { didYouMean } from '../errors/nearest.ts';
import { newAjv, prepared } from './option-schema.ts';

const TYPES = ['string', 'number', 'integer', 'boolean', 'array', 'object', 'null'];

/** Keywords under which further schemas stand: by name, in a list, or alone. */
const MAPS = ['properties', 'patternProperties', '$defs', 'dependentSchemas'];
const LISTS = ['allOf', 'anyOf', 'oneOf', 'prefixItems'];
const SINGLES = ['items', 'not', 'if', 'then', 'else', 'contains', 'propertyNames', 'additionalProperties'];

/**
 * Faults as `at /properties/steps/type: "intger" is no type (did you mean "integer"?)`, each with the JSON pointer of its
 * place; none when the schema is valid JSON Schema (2020-12) and says nothing that fr1 does not know.
 */
export function schemaFaults(schema: object): string[] {
  const ajv = newAjv();
  const plain = prepared(schema) as object;
  if (ajv.validateSchema(plain) === true) {
    const fault = compileFault(plain);
    if (fault === undefined) return [];
    return [`at ${shown(placeOf(plain, fault, ''))}: ${fault.replace(/^strict mode: /, '')}`];
  }
  const errors = ajv.errors ?? [];
  const places = [...new Set(errors.map(({ instancePath }) => instancePath))];
  // What holds a fault fails too, and says less.
  const innermost = places.filter((place) => !places.some((other) => other.startsWith(`${place}/`)));
  return innermost.map((place) => {
    const here = errors.filter(({ instancePath }) => instancePath === place);
    return `at ${shown(place)}: ${causeOf(here, place)}`;
  });
}

function causeOf(errors: readonly ErrorObject[], place: string): string {
  const value: unknown = errors[0]!.data;
  const isType = /\/type(\/\d+)?$/.test(place) && errors.some(({ keyword }) => keyword === 'enum');
  if (isType && typeof value === 'string') return `"${value}" is no type (${didYouMean(value, TYPES, 'types')})`;
  const causes = errors.filter(({ keyword }) => keyword !== 'anyOf').map(({ message }) => message ?? 'is not valid');
  return `${[...new Set(causes)].join(', or ')}, not ${JSON.stringify(value)}`;
}

/** What the compiler says beyond the metaschema: keywords that it does not know, values that they do not take. */
function compileFault(schema: object): string | undefined {
  try {
    newAjv().compile(schema);
    return undefined;
  } catch (error) {
    return (error as Error).message.replace(/ at path "[^"]*"/, '');
  }
}

/** JSON pointer of the innermost schema that has this fault by itself. */
function placeOf(schema: object, fault: string, place: string): string {
  const inner = subschemas(schema).find(([, each]) => compileFault(each) === fault);
  return inner === undefined ? place : placeOf(inner[1], fault, `${place}/${inner[0]}`);
}

/** The schemas right below, by pointer from here. */
function subschemas(schema: object): [string, object][] {
  const found: [string, unknown][] = [];
  for (const [key, value] of Object.entries(schema) as [string, unknown][]) {
    if (SINGLES.includes(key)) found.push([key, value]);
    if (!MAPS.includes(key) && !LISTS.includes(key)) continue;
    for (const [name, each] of Object.entries(value as object)) found.push([`${key}/${escaped(name)}`, each]);
  }
  return found.filter((pair): pair is [string, object] => pair[1] !== null && typeof pair[1] === 'object');
}

function escaped(name: string): string {
  return name.replaceAll('~', '~0').replaceAll('/', '~1');
}

function shown(place: string): string {
  return place === '' ? 'the top' : place;
}
