/** `fr1 check`: everything that can be known about a pipeline file without running it. */
import { loadPipeline } from '../config/load.ts';
import { planPipeline } from '../plan/plan.ts';
import { type CliIo, writeLines } from './io.ts';
import { loadStages, pluginLoader } from './load-stages.ts';
import type { CheckFlags } from './main.ts';

export async function checkCommand(file: string, flags: CheckFlags, io: CliIo): Promise<number> {
  const stages = await loadStages(io);
  const pipeline = await loadPipeline({ file, sets: flags.set, stages, loadPlugin: pluginLoader(), cwd: io.cwd });
  const { order } = planPipeline(pipeline);
  if (flags.json) {
    const list = order.map((stage) => ({
      name: stage.name,
      kind: stage.definition.kind,
      dependencies: stage.dependencies,
    }));
    writeLines(io.stdout, [JSON.stringify({ version: 1, pipeline: pipeline.name, stages: list }, null, 2)]);
  } else {
    writeLines(io.stdout, [`${file}: pipeline "${pipeline.name}" is valid, ${order.length} stages`]);
  }
  return 0;
}
