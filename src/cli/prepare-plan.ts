/** Flags of `run` and `plan` -> a plan, its workspace and the settings that change numbers. */
import { resolve } from 'node:path';
import { loadPipeline } from '../config/load.ts';
import { planPipeline } from '../plan/plan.ts';
import type { Numerics, Plan } from '../plan/types.ts';
import { requireUsableDevice } from '../pool/devices.ts';
import { currentNumerics } from '../run/numerics.ts';
import { Workspace, workspaceBeside } from '../run/workspace.ts';
import type { CliIo } from './io.ts';
import { loadStages, pluginLoader } from './load-stages.ts';
import type { PlanFlags } from './main.ts';

export interface PreparedPlan {
  readonly plan: Plan;
  readonly workspace: Workspace;
  readonly numerics: Numerics;
}

export async function preparePlan(file: string, flags: PlanFlags, io: CliIo): Promise<PreparedPlan> {
  requireUsableDevice(flags.device);
  const stages = await loadStages(io);
  const pipeline = await loadPipeline({ file, sets: flags.set, stages, loadPlugin: pluginLoader(), cwd: io.cwd });
  const plan = planPipeline(pipeline, {
    ...(flags.only && { only: flags.only }),
    ...(flags.force && { force: flags.force }),
  });
  const directory = flags.workspace ? resolve(io.cwd, flags.workspace) : workspaceBeside(resolve(io.cwd, file));
  return {
    plan,
    workspace: new Workspace(directory),
    numerics: currentNumerics(flags.device, flags.threads),
  };
}
