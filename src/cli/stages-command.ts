/** `fr1 stages`: the kinds of stages, or one kind with its options, inputs and outputs. */
import { Fr1Error } from '../errors/fr1-error.ts';
import { didYouMean } from '../errors/nearest.ts';
import type { StageDefinition } from '../run/stage-api.ts';
import { widthOf } from '../ui/table.ts';
import { oneLine } from '../ui/words.ts';
import { type CliIo, writeLines } from './io.ts';
import { loadStages, pluginLoader } from './load-stages.ts';

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
      const indent = ' '.repeat(width + 2);
      const lines = stages.flatMap(({ kind, summary }) => wrapped(summary, kind.padEnd(width + 2), indent));
      writeLines(io.stdout, [...lines, '', '`fr1 stages KIND` shows the options of one']);
    }
    return 0;
  }
  const stage = stages.find((each) => each.kind === kind) ?? (await pluginLoader()(kind, io.cwd));
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

/** Lines of text are at most this long. */
const WIDTH = 80;

function describeStage(stage: StageDefinition): string[] {
  const isInput = (name: string) => artifactTypesOf(stage.schema.properties[name]).length > 0;
  const options = optionRows(stage);
  const section = (title: string, entries: readonly (readonly string[])[]) =>
    entries.length === 0 ? [] : ['', title, ...entries.flat()];
  const optionEntry = ({ name, type, default: value, description }: OptionRow) => [
    ...wrapped(
      `${name}: ${type}${value === '' ? '' : value === 'required' ? ', required' : `, default ${value}`}`,
      '  ',
      '      ',
    ),
    ...wrapped(description, '      '),
  ];
  const outputs = Object.entries(stage.outputs).map(([name, { type, description }]) => [
    ...wrapped(`${name}: ${type}`, '  '),
    ...wrapped(description, '      '),
  ]);
  return [
    ...wrapped(`${stage.kind}: ${stage.summary}`, ''),
    ...section('Inputs', options.filter((row) => isInput(row.name)).map(optionEntry)),
    ...section('Options', options.filter((row) => !isInput(row.name)).map(optionEntry)),
    ...section('Outputs', outputs),
    ...(stage.metrics?.length ? ['', 'Metrics', ...wrapped(stage.metrics.join(', '), '  ')] : []),
  ];
}

/** The text in lines of at most {@link WIDTH}, broken at spaces; a longer word stands alone. */
export function wrapped(text: string, indent: string, nextIndent: string = indent): string[] {
  if (text === '') return [];
  const lines: string[] = [];
  let line = indent;
  for (const word of oneLine(text).split(' ')) {
    const isFirst = line.trim() === '';
    if (!isFirst && widthOf(line) + 1 + widthOf(word) > WIDTH) {
      lines.push(line);
      line = nextIndent + word;
    } else line += isFirst ? word : ` ${word}`;
  }
  return [...lines, line];
}

/** The options of a stage as rows, properties of nested objects behind a dot, of those in a list behind `[]`. */
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
      const items = property['items'] as Readonly<Record<string, unknown>> | undefined;
      if (items?.['type'] === 'object') visit(items, `${path}[].`);
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
