/** `fr1 graph`: who waits for whom, for reading or for a drawing program. */
import { loadPipeline } from '../config/load.ts';
import { drawGraph } from '../plan/draw-graph.ts';
import { planPipeline } from '../plan/plan.ts';
import { type CliIo, writeLines } from './io.ts';
import { loadStages, pluginLoader } from './load-stages.ts';
import type { GraphFlags } from './main.ts';
import { selectionOf } from './prepare-plan.ts';

export async function graphCommand(file: string, flags: GraphFlags, io: CliIo): Promise<number> {
  const stages = await loadStages(io);
  const pipeline = await loadPipeline({ file, sets: flags.set, stages, loadPlugin: pluginLoader(), cwd: io.cwd });
  const plan = planPipeline(pipeline, selectionOf(flags));
  writeLines(io.stdout, drawGraph(plan, flags.format, flags.cells === true));
  return 0;
}
