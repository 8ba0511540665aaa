/** Compiled JSON Schemas: the document's and those of stages, with the keyword `artifact`. */
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Ajv2020, type ErrorObject } from 'ajv/dist/2020.js';
import { ARTIFACT_TYPES, type ArtifactType } from '../artifacts/types.ts';
import { Fr1Error } from '../errors/fr1-error.ts';
import type { StageDefinition } from '../run/stage-api.ts';
import { FAILED, isArtifactRef } from './tree.ts';

/** An option that takes an artifact, as found while validating. */
export interface ArtifactOption {
  /** JSON pointer into the options. */
  readonly pointer: string;
  readonly accepts: readonly ArtifactType[];
}

export interface OptionCheck {
  readonly errors: readonly ErrorObject[];
  readonly artifacts: readonly ArtifactOption[];
}

/** Checks the options and fills in defaults, in place. */
export type OptionChecker = (options: Record<string, unknown>) => OptionCheck;

interface Recorder {
  readonly artifacts: Map<string, ArtifactOption>;
}

/** Keywords that describe an option without constraining it. */
const DESCRIPTIVE_KEYWORDS = ['unit', 'tsType', 'source'];

/** A validator of options: strict about schemas, with fr1's own keywords. */
export function newAjv(): Ajv2020 {
  const ajv = new Ajv2020({
    allErrors: true,
    verbose: true,
    useDefaults: true,
    passContext: true,
    strict: true,
    strictTypes: false,
    strictRequired: false,
    strictTuples: false,
    allowUnionTypes: true,
    logger: false,
    // Costs more than all else here; schemaFaults() does it for schemas from outside.
    validateSchema: false,
    // A schema is compiled in each process and used a few times: shorter code would not pay for itself.
    code: { optimize: false },
  });
  for (const keyword of DESCRIPTIVE_KEYWORDS) if (ajv.getKeyword(keyword) === false) ajv.addKeyword(keyword);
  ajv.addKeyword({
    keyword: 'artifact',
    schemaType: 'array',
    metaSchema: { type: 'array', minItems: 1, items: { enum: Object.keys(ARTIFACT_TYPES) } },
    validate(
      this: Recorder,
      accepts: readonly ArtifactType[],
      value: unknown,
      _parent: unknown,
      place?: { instancePath: string },
    ) {
      if (value === FAILED) return true;
      if (!isArtifactRef(value) && (typeof value !== 'string' || value === '')) return false;
      const pointer = place?.instancePath ?? '';
      this.artifacts.set(pointer, { pointer, accepts });
      return true;
    },
  });
  return ajv;
}

let shared: Ajv2020 | undefined;

/** One instance for all schemas, which have no ids: the drafts' own schemas are compiled once. */
function theAjv(): Ajv2020 {
  shared ??= newAjv();
  return shared;
}

const checkers = new WeakMap<object, OptionChecker>();

/** @throws STAGE_SCHEMA_INVALID when the stage's schema does not compile */
export function optionChecker(definition: StageDefinition): OptionChecker {
  const known = checkers.get(definition.schema);
  if (known !== undefined) return known;
  const checker = compile(definition.schema, `the stage kind "${definition.kind}"`);
  checkers.set(definition.schema, checker);
  return checker;
}

let document: OptionChecker | undefined;

/** The checker of the whole document, `schemas/pipeline.schema.json`. */
export function documentChecker(): OptionChecker {
  document ??= compile(readSchema('pipeline.schema.json'), 'the pipeline document');
  return document;
}

function compile(schema: object, owner: string): OptionChecker {
  let validate: ReturnType<Ajv2020['compile']>;
  try {
    validate = theAjv().compile(prepared(schema) as object);
  } catch (cause) {
    throw new Fr1Error(
      'STAGE_SCHEMA_INVALID',
      `the option schema of ${owner} is not valid: ${(cause as Error).message}`,
      {
        cause,
      },
    );
  }
  return (options) => {
    const recorder: Recorder = { artifacts: new Map() };
    const isValid = validate.call(recorder as never, options);
    return { errors: isValid ? [] : (validate.errors ?? []), artifacts: [...recorder.artifacts.values()] };
  };
}

/** The schema without the draft's name and ids; where `artifact` stands, it replaces `type`. */
export function prepared(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(prepared);
  if (schema === null || typeof schema !== 'object') return schema;
  const copy: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(schema)) {
    if (key === '$schema' || key === '$id') continue;
    if (key === 'type' && 'artifact' in schema && Array.isArray(schema.artifact)) continue;
    const isData = key === 'default' || key === 'enum' || key === 'const' || key === 'examples';
    copy[key] = isData ? value : prepared(value);
  }
  return copy;
}

/** Reads a file of the package's `schemas/`, from the source tree and from `dist/` alike. */
function readSchema(name: string): object {
  const places = [`../../schemas/${name}`, `../../../schemas/${name}`].map((place) =>
    fileURLToPath(new URL(place, import.meta.url)),
  );
  const file = places.find((place) => existsSync(place));
  if (file === undefined) throw new Fr1Error('STAGE_SCHEMA_INVALID', `the package has no schemas/${name}`);
  return JSON.parse(readFileSync(file, 'utf8')) as object;
}
