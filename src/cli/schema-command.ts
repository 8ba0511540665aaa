/**
 * `fr1 schema`: the JSON Schema of pipelines for editors, with the options of the built-in stages and of plugins: those
 * that pipeline files use, and those that are named.
 */
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { editorSchema } from '../config/editor-schema.ts';
import { parseYaml } from '../config/parse-yaml.ts';
import { Source } from '../config/source.ts';
import { childOf } from '../config/tree.ts';
import { Fr1Error } from '../errors/fr1-error.ts';
import { packagePath } from '../run/package-files.ts';
import type { StageDefinition } from '../run/stage-api.ts';
import { type CliIo, writeLines } from './io.ts';
import { loadStages, pluginLoader } from './load-stages.ts';

/** @param names pipeline files (.yaml, .yml), or plugins as `uses` would name them */
export async function schemaCommand(names: readonly string[], io: CliIo): Promise<number> {
  const stages = [...(await loadStages(io))];
  const loadPlugin = pluginLoader();
  const add = async (uses: string, folder: string) => {
    if (stages.some(({ kind }) => kind === uses)) return;
    const plugin = await loadPlugin(uses, folder);
    if (plugin !== undefined) stages.push({ ...plugin, kind: uses });
    else throw new Fr1Error('STAGE_KIND_UNKNOWN', `there is no stage or plugin "${uses}"`);
  };
  for (const name of names) {
    if (!/\.ya?ml$/i.test(name)) await add(name, io.cwd);
    else for (const uses of pluginsOf(name, io)) await add(uses, path.dirname(path.resolve(io.cwd, name)));
  }
  const document = JSON.parse(readFileSync(packagePath('schemas/pipeline.schema.json'), 'utf8')) as object;
  const schema = editorSchema(document as Readonly<Record<string, unknown>>, stages as readonly StageDefinition[]);
  writeLines(io.stdout, [JSON.stringify(schema, null, 2)]);
  return 0;
}

/** What a pipeline names under `uses` and what looks like a plugin; the file may be wrong in any other way. */
function pluginsOf(file: string, io: CliIo): string[] {
  const absolute = path.resolve(io.cwd, file);
  if (!existsSync(absolute)) throw new Fr1Error('PIPELINE_FILE_MISSING', `there is no file ${file}`);
  const { root } = parseYaml(new Source(file, readFileSync(absolute, 'utf8')));
  const stages = childOf(root, 'stages');
  if (stages?.kind !== 'map') return [];
  return stages.entries.flatMap(({ value }) => {
    const uses = childOf(value, 'uses');
    const isPlain = uses?.kind === 'scalar' && typeof uses.value === 'string' && !uses.value.includes('${{');
    return isPlain && /[./@]|^fr1-/.test(uses.value as string) ? [uses.value as string] : [];
  });
}
