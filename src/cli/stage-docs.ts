/** docs/stages.md, from the stages themselves. Pure. */
import { ARTIFACT_TYPES } from '../artifacts/types.ts';
import type { StageDefinition } from '../run/stage-api.ts';
import { type OptionRow, optionRows } from './stages-command.ts';

/** The page: one section per kind with inputs, options, outputs and metrics, then the types of artifacts. */
export function stageDocs(stages: readonly StageDefinition[]): string {
  const contents = stages.map(({ kind, summary }) => `- [\`${kind}\`](#${kind}): ${summary}`);
  const types = Object.entries(ARTIFACT_TYPES).map(([type, content]) => [`\`${type}\``, content]);
  return [
    '# Stages',
    'The kinds that `uses:` may name, generated from their schemas; `fr1 stages KIND` shows the same. A stage of your own is a [plugin](plugins.md).',
    contents.join('\n'),
    ...stages.flatMap(section),
    '## Types of artifacts',
    'An output of a type fits every option that takes the type. Instead of an output, an option takes the path of a local folder that holds the same, from the pipeline file on.',
    table(['type', 'what it holds'], types),
    '',
  ].join('\n\n');
}

function section(stage: StageDefinition): string[] {
  const rows = optionRows(stage);
  const outputs = Object.entries(stage.outputs).map(([name, { type, description }]) => [
    `\`${name}\``,
    `\`${type}\``,
    description,
  ]);
  const description = stage.schema['description'];
  return [
    `## ${stage.kind}`,
    stage.summary,
    ...(typeof description === 'string' && description !== stage.summary ? [description] : []),
    ...(rows.length === 0 ? [] : [table(['option', 'type', 'default', 'meaning'], rows.map(optionCells))]),
    ...(outputs.length === 0 ? [] : [table(['output', 'type', 'what it is'], outputs)]),
    ...(stage.metrics?.length ? [`Metrics: ${stage.metrics.map((name) => `\`${name}\``).join(', ')}.`] : []),
  ];
}

function optionCells({ name, type, default: value, description }: OptionRow): string[] {
  const shown = value === '' ? '' : value === 'required' ? '**required**' : `\`${value}\``;
  return [`\`${name}\``, type, shown, description];
}

function table(columns: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.map(cell).join(' | ')} |`;
  return [line(columns), line(columns.map(() => '---')), ...rows.map(line)].join('\n');
}

function cell(text: string): string {
  return text.replaceAll('|', '\\|').replaceAll('<', '&lt;').replace(/\s+/g, ' ').trim();
}
