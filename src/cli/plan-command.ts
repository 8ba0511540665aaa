/** `fr1 plan` and `fr1 run --dry-run`: the order, what is cached, what runs and why. */
import type { Plan } from '../plan/types.ts';
import { forecastRun, type StageForecast } from '../run/forecast.ts';
import { agoText, durationText, oneLine, reasonText } from '../ui/words.ts';
import { type CliIo, shortPath, writeLines } from './io.ts';
import type { PlanFlags } from './main.ts';
import { preparePlan } from './prepare-plan.ts';

export async function planCommand(file: string, flags: PlanFlags, io: CliIo): Promise<number> {
  const { plan, workspace, numerics } = await preparePlan(file, flags, io);
  const forecasts = await forecastRun(plan, workspace, numerics);
  if (flags.json) {
    const { name } = plan.pipeline;
    const content = { version: 1, pipeline: name, workspace: workspace.directory, numerics, stages: forecasts };
    writeLines(io.stdout, [JSON.stringify({ ...content, leftOut: plan.leftOut }, null, 2)]);
  } else {
    writeLines(io.stdout, [...forecastLines(plan, forecasts), `workspace: ${shortPath(io)(workspace.directory)}`]);
  }
  return 0;
}

export function forecastLines(plan: Plan, forecasts: readonly StageForecast[], now: number = Date.now()): string[] {
  const nameWidth = Math.max(0, ...forecasts.map((stage) => stage.name.length));
  const kindWidth = Math.max(0, ...forecasts.map((stage) => stage.kind.length));
  const lines = forecasts.map((stage, i) => {
    const number = String(i + 1).padStart(String(forecasts.length).length);
    return `${number}. ${stage.name.padEnd(nameWidth)}  ${stage.kind.padEnd(kindWidth)}  ${forecastText(stage, now)}`;
  });
  if (plan.leftOut.length > 0) lines.push(`left out: ${plan.leftOut.join(', ')}`);
  return lines;
}

function forecastText(stage: StageForecast, now: number): string {
  switch (stage.will) {
    case 'reuse':
      return `cached: made ${agoText(stage.finishedAt, now)} in ${durationText(stage.durationMs)}`;
    case 'run':
      return `runs: ${oneLine(reasonText(stage.reason))}${stage.resumes ? '; continues from its last checkpoint' : ''}`;
    case 'depend':
      return `depends on what ${stage.on.join(', ')} will make`;
    default:
      throw new TypeError(`unknown forecast ${stage satisfies never}`);
  }
}
