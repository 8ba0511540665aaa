/** `fr1 stages`: the kinds of stages, or one kind with its options, inputs and outputs. */
import { Fr1Error } from '../errors/fr1-error.ts';
import { didYouMean } from '../errors/nearest.ts';
import type { StageDefinition } from '../run/stage-api.ts';
import { tableLines } from '../ui/table.ts';
import { type CliIo, writeLines } from './io.ts';
import { loadStages } from './load-stages.ts';

export interface OptionRow {
  readonly name: string;
  readonly type: string;
  /** JSON text, or `required`, or empty when the option may be left out and has no default. */
  readonly default: string;
  readonly description: string;
}

export async function stagesCommand(
  kind: string | undefined,
  flags: { readonly json?: boolean },
  io: CliIo,
): Promise<number> {
  const stages = await loadStages(io);
  if (kind === undefined) {
    if (flags.json) {
      const list = stages.map(({ kind, summary, version }) => ({ kind, summary, version }));
      writeLines(io.stdout, [JSON.stringify({ version: 1, stages: list }, null, 2)]);
    } else {
      const width = Math.max(0, ...stages.map((stage) => stage.kind.length));
      const lines = stages.map((stage) => `${stage.kind.padEnd(width)}  ${stage.summary}`);
      writeLines(io.stdout, [...lines, '', '`fr1 stages KIND` shows the options of one']);
    }
    return 0;
  }
  const stage = stages.find((each) => each.kind === kind);
  if (!stage) {
    const kinds = stages.map((each) => each.kind);
    throw new Fr1Error('STAGE_KIND_UNKNOWN', `there is no stage of kind "${kind}"`, { hint: didYouMean(kind, kinds) });
  }
  if (flags.json) {
    const { summary, version, schema, outputs, metrics = [] } = stage;
    writeLines(io.stdout, [
      JSON.stringify({ version: 1, kind, summary, stageVersion: version, schema, outputs, metrics }, null, 2),
    ]);
  } else {
    writeLines(io.stdout, describeStage(stage));
  }
  return 0;
}

function describeStage(stage: StageDefinition): string[] {
  const isInput = (name: string) => artifactTypesOf(stage.schema.properties[name]).length > 0;
  const options = optionRows(stage);
  const rowsOf = (rows: readonly OptionRow[]) => rows.map((row) => [row.name, row.type, row.default, row.description]);
  const section = (title: string, rows: readonly (readonly string[])[], columns: readonly string[]) =>
    rows.length === 0 ? [] : ['', ...tableLines({ title, columns, rows })];
  const columns = ['name', 'type', 'default', 'description'];
  const outputs = Object.entries(stage.outputs).map(([name, { type, description }]) => [name, type, description]);
  return [
    `${stage.kind}: ${stage.summary}`,
    ...section('Inputs', rowsOf(options.filter((row) => isInput(row.name))), columns),
    ...section('Options', rowsOf(options.filter((row) => !isInput(row.name))), columns),
    ...section('Outputs', outputs, ['name', 'type', 'description']),
    ...(stage.metrics?.length ? ['', `Metrics: ${stage.metrics.join(', ')}`] : []),
  ];
}

/** The options of a stage as rows, properties of nested objects behind a dot. */
export function optionRows(stage: Pick<StageDefinition, 'schema'>): OptionRow[] {
  const rows: OptionRow[] = [];
  const visit = (schema: Readonly<Record<string, unknown>>, prefix: string) => {
    const properties = (schema['properties'] ?? {}) as Record<string, Record<string, unknown>>;
    const required = (schema['required'] ?? []) as readonly string[];
    for (const [name, property] of Object.entries(properties)) {
      const path = `${prefix}${name}`;
      rows.push({
        name: path,
        type: typeText(property),
        default:
          'default' in property ? JSON.stringify(property['default']) : required.includes(name) ? 'required' : '',
        description: String(property['description'] ?? ''),
      });
      if (property['type'] === 'object') visit(property, `${path}.`);
    }
  };
  visit(stage.schema, '');
  return rows;
}

function typeText(property: Readonly<Record<string, unknown>>): string {
  const artifacts = artifactTypesOf(property);
  if (artifacts.length > 0) return artifacts.join(' | ');
  if (Array.isArray(property['enum'])) return property['enum'].map((value) => JSON.stringify(value)).join(' | ');
  if ('const' in property) return JSON.stringify(property['const']);
  const choices = property['oneOf'] ?? property['anyOf'];
  if (Array.isArray(choices)) return choices.map((choice) => typeText(choice as Record<string, unknown>)).join(' | ');
  if (property['type'] === 'array') return `list of ${typeText((property['items'] ?? {}) as Record<string, unknown>)}`;
  const type = Array.isArray(property['type']) ? property['type'].join(' | ') : String(property['type'] ?? 'any');
  return `${type}${rangeText(property)}`;
}

/** ` >= 1, < 2`, from the schema's bounds. */
function rangeText(property: Readonly<Record<string, unknown>>): string {
  const signs = { minimum: '>=', exclusiveMinimum: '>', maximum: '<=', exclusiveMaximum: '<' };
  const bounds = Object.entries(signs).filter(([keyword]) => typeof property[keyword] === 'number');
  return bounds.length === 0 ? '' : ` ${bounds.map(([keyword, sign]) => `${sign} ${property[keyword]}`).join(', ')}`;
}

function artifactTypesOf(property: Readonly<Record<string, unknown>> | undefined): readonly string[] {
  const own = property?.['artifact'];
  if (Array.isArray(own)) return own as string[];
  const items = property?.['items'] as Readonly<Record<string, unknown>> | undefined;
  return items ? artifactTypesOf(items) : [];
}
