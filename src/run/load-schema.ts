/** Finds and reads the schema.json of a stage, from the source tree and from the built package alike. */
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { Fr1Error } from '../errors/fr1-error.ts';
import type { OptionsSchema } from './stage-api.ts';

/**
 * The option schema next to a stage: `loadStageSchema(import.meta.url)`.
 *
 * The build does not copy JSON, so `<root>/dist/stages/<kind>/stage.js` reads `<root>/stages/<kind>/schema.json`.
 *
 * @throws STAGE_SCHEMA_INVALID when there is no readable schema of an object that forbids other properties
 */
export function loadStageSchema(stageUrl: string): OptionsSchema {
  const folder = path.dirname(fileURLToPath(stageUrl));
  const file = candidates(folder).find((candidate) => existsSync(candidate));
  if (file === undefined) {
    throw new Fr1Error('STAGE_SCHEMA_INVALID', `the stage in ${folder} has no schema.json`);
  }
  let schema: unknown;
  try {
    schema = JSON.parse(readFileSync(file, 'utf8'));
  } catch (cause) {
    throw new Fr1Error('STAGE_SCHEMA_INVALID', `${file} is not JSON: ${(cause as Error).message}`, { cause });
  }
  if (!isOptionsSchema(schema)) {
    throw new Fr1Error('STAGE_SCHEMA_INVALID', `${file} does not describe a stage's options`, {
      hint: 'it needs "type": "object", "properties" and "additionalProperties": false',
    });
  }
  return schema;
}

/** Beside the stage first, then the same folder without the last `dist` segment of its path. */
function candidates(folder: string): string[] {
  const segments = folder.split(path.sep);
  const dist = segments.lastIndexOf('dist');
  const found = [path.join(folder, 'schema.json')];
  if (dist > 0) found.push(path.join(segments.toSpliced(dist, 1).join(path.sep), 'schema.json'));
  return found;
}

function isOptionsSchema(value: unknown): value is OptionsSchema {
  if (value === null || typeof value !== 'object') return false;
  const { type, properties, additionalProperties } = value as Record<string, unknown>;
  return type === 'object' && properties !== null && typeof properties === 'object' && additionalProperties === false;
}
