/** `fr1 plan` and `fr1 run --dry-run`: the order, what is cached, what runs and why. */
import type { Plan } from '../plan/types.ts';
import { forecastRun, type StageForecast } from '../run/forecast.ts';
import { agoText, bytesText, durationText, oneLine, reasonText } from '../ui/words.ts';
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
    const place = `workspace: ${shortPath(io)(workspace.directory)}`;
    writeLines(io.stdout, [...forecastLines(plan, forecasts), ...estimateLines(forecasts), place]);
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

/** What the stages that may run took the last time. */
function estimateLines(forecasts: readonly StageForecast[]): string[] {
  const ahead = forecasts.filter(({ will }) => will === 'run' || will === 'depend');
  const known = ahead.flatMap(({ estimatedMs }) => (estimatedMs === undefined ? [] : [estimatedMs]));
  if (ahead.length === 0) return [];
  const unknown = ahead.length - known.length;
  const total = durationText(known.reduce((sum, ms) => sum + ms, 0));
  const rest = unknown === 0 ? '' : `; ${unknown} never ran before`;
  return known.length === 0
    ? ['time: unknown, as none of these ran before']
    : [`time: about ${total} if ${known.length} take as long as the last time, one after another${rest}`];
}

function forecastText(stage: StageForecast, now: number): string {
  switch (stage.will) {
    case 'reuse':
      return `cached: made ${agoText(stage.finishedAt, now)} in ${durationText(stage.durationMs)}`;
    case 'run':
      return `runs: ${oneLine(reasonText(stage.reason))}${stage.resumes ? '; continues from its last checkpoint' : ''}${needsText(stage)}`;
    case 'depend':
      return `depends on what ${shortList(stage.on)} will make${needsText(stage)}`;
    case 'skip':
      return stage.because === undefined ? 'skipped: its condition is false' : `skipped, as ${stage.because} is`;
    default:
      throw new TypeError(`unknown forecast ${stage satisfies never}`);
  }
}

/** Time and memory, where they are known: ` (12 s, 4 GiB)`. */
function needsText({ estimatedMs, memoryBytes }: StageForecast): string {
  const parts = [
    ...(estimatedMs === undefined ? [] : [`took ${durationText(estimatedMs)} last time`]),
    ...(memoryBytes === undefined ? [] : [`needs ${bytesText(memoryBytes)}`]),
  ];
  return parts.length === 0 ? '' : ` (${parts.join(', ')})`;
}

function shortList(names: readonly string[]): string {
  return names.length <= 5 ? names.join(', ') : `${names.slice(0, 4).join(', ')} and ${names.length - 4} more`;
}
