/** Whether what a plugin exports is a stage: types are gone at run time, and a plugin may be plain JavaScript. */
import { ARTIFACT_TYPES } from '../artifacts/types.ts';
import { schemaFaults } from '../config/schema-faults.ts';
import { Fr1Error } from '../errors/fr1-error.ts';
import { didYouMean } from '../errors/nearest.ts';
import type { StageDefinition } from '../run/stage-api.ts';

const KNOWN = new Set([
  'kind',
  'summary',
  'version',
  'schema',
  'outputs',
  'metrics',
  'cosmeticOptions',
  'resources',
  'validate',
  'emptyOutputs',
  'check',
  'run',
]);

/**
 * The stage, with what it leaves out filled in.
 *
 * @throws PLUGIN_INVALID with every fault
 */
export function checkStage(value: unknown, uses: string): StageDefinition {
  if (!isRecord(value)) {
    throw new Fr1Error('PLUGIN_INVALID', `the plugin "${uses}" exports no stage`, {
      hint: 'its module must have a default export: export default defineStage({ ... })',
    });
  }
  const faults = faultsOf(value);
  if (faults.length > 0) {
    const list = faults.length === 1 ? ` ${faults[0]}` : `\n${faults.map((fault) => `  - ${fault}`).join('\n')}`;
    throw new Fr1Error('PLUGIN_INVALID', `the plugin "${uses}" exports no valid stage:${list}`, {
      hint: 'docs/plugins.md describes what a stage is made of',
    });
  }
  return { resources: () => ({ device: false }), ...value } as unknown as StageDefinition;
}

function faultsOf(stage: Readonly<Record<string, unknown>>): string[] {
  const { kind, summary, version, schema, outputs, metrics, cosmeticOptions } = stage;
  const faults: string[] = [];
  const need = (isRight: boolean, fault: string) => {
    if (!isRight) faults.push(fault);
  };
  for (const name of Object.keys(stage)) {
    if (!KNOWN.has(name)) faults.push(`"${name}" is no part of a stage (${didYouMean(name, [...KNOWN], 'parts')})`);
  }
  need(typeof kind === 'string' && /^[a-z][a-z0-9-]*$/.test(kind), '"kind" must be a name of a-z, 0-9 and "-"');
  need(typeof summary === 'string' && summary !== '', '"summary" must be a sentence');
  need(Number.isInteger(version) && (version as number) >= 1, '"version" must be a whole number from 1 on');
  const { type, properties, additionalProperties } = isRecord(schema) ? schema : {};
  if (type === 'object' && isRecord(properties) && additionalProperties === false) {
    faults.push(...schemaFaults(schema as object).map((fault) => `"schema" ${fault}`));
  } else {
    faults.push('"schema" must have type: "object", properties and additionalProperties: false');
  }
  const types = Object.keys(ARTIFACT_TYPES);
  if (!isRecord(outputs)) faults.push('"outputs" must map names to types');
  for (const [name, output] of isRecord(outputs) ? Object.entries(outputs) : []) {
    const outputType = isRecord(output) ? output['type'] : undefined;
    const hint = typeof outputType === 'string' ? didYouMean(outputType, types, 'types') : `types: ${types.join(', ')}`;
    need(types.includes(outputType as string), `output "${name}" has no known type (${hint})`);
  }
  need(isListOfTexts(metrics), '"metrics" must be a list of names');
  need(isListOfTexts(cosmeticOptions), '"cosmeticOptions" must be a list of options');
  for (const name of ['resources', 'validate', 'emptyOutputs', 'check'] as const) {
    need(stage[name] === undefined || typeof stage[name] === 'function', `"${name}" must be a function`);
  }
  need(typeof stage['run'] === 'function', '"run" must be a function');
  return faults;
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return value !== null && typeof value === 'object' && !Array.isArray(value);
}

function isListOfTexts(value: unknown): boolean {
  return value === undefined || (Array.isArray(value) && value.every((each) => typeof each === 'string'));
}
