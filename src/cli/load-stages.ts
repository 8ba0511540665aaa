/** The stages that a command knows: the built-in list, plugins and, for tests, a module named by FR1_EXTRA_STAGES. */
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { Fr1Error } from '../errors/fr1-error.ts';
import type { PluginLoader } from '../plugin-api/load-plugin.ts';
import type { StageDefinition } from '../run/stage-api.ts';
import type { CliIo } from './io.ts';

export async function loadStages(io: CliIo): Promise<readonly StageDefinition[]> {
  const { STAGES } = await import('../../stages/index.ts');
  const extra = io.env['FR1_EXTRA_STAGES'];
  return extra ? [...STAGES, ...(await importStages(resolve(io.cwd, extra)))] : STAGES;
}

/** Finds plugins for `loadPipeline`; what that takes is loaded when a pipeline names the first. */
export function pluginLoader(): (uses: string, folder: string) => Promise<StageDefinition | undefined> {
  let loader: Promise<PluginLoader> | undefined;
  return async (uses, folder) => {
    loader ??= import('../plugin-api/load-plugin.ts').then((module) => new module.PluginLoader());
    return (await loader).load(uses, folder);
  };
}

async function importStages(path: string): Promise<readonly StageDefinition[]> {
  const module: unknown = await import(pathToFileURL(path).href);
  const stages = typeof module === 'object' && module !== null && 'STAGES' in module ? module.STAGES : undefined;
  if (!Array.isArray(stages)) throw new Fr1Error('CLI_ARGUMENTS', `${path} exports no list STAGES`);
  return stages as StageDefinition[];
}
