/** Flags of `run` and `plan` -> a plan, its workspace and the settings that change numbers. */
import { resolve } from 'node:path';
import { loadPipeline } from '../config/load.ts';
import { planPipeline } from '../plan/plan.ts';
import type { Numerics, Plan, Selection } from '../plan/types.ts';
import { deviceIds, precisionOf, requireUsableDevice } from '../pool/devices.ts';
import { currentNumerics } from '../run/numerics.ts';
import { Workspace, workspaceBeside } from '../run/workspace.ts';
import type { CliIo } from './io.ts';
import { loadStages, pluginLoader } from './load-stages.ts';
import type { PlanFlags, SelectionFlags } from './main.ts';

export interface PreparedPlan {
  readonly plan: Plan;
  readonly workspace: Workspace;
  readonly numerics: Numerics;
  /** Ids of the devices that stages may have. */
  readonly devices: readonly string[];
}

/** Flags that choose stages. */
export function selectionOf({ only, from, until, force }: SelectionFlags): Selection {
  return { ...(only && { only }), ...(from && { from }), ...(until && { until }), ...(force && { force }) };
}

export async function preparePlan(file: string, flags: PlanFlags, io: CliIo): Promise<PreparedPlan> {
  const devices = deviceIds(flags.device);
  for (const device of devices) await requireUsableDevice(device);
  const stages = await loadStages(io);
  const pipeline = await loadPipeline({ file, sets: flags.set, stages, loadPlugin: pluginLoader(), cwd: io.cwd });
  const plan = planPipeline(pipeline, selectionOf(flags));
  const directory = flags.workspace ? resolve(io.cwd, flags.workspace) : workspaceBeside(resolve(io.cwd, file));
  return {
    plan,
    workspace: new Workspace(directory),
    numerics: currentNumerics(devices, flags.threads, precisionOf(devices[0]!)),
    devices,
  };
}
