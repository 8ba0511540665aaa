/** `fr1 why`: all that decides whether one stage runs. */

import { Fr1Error } from '../errors/fr1-error.ts';
import { didYouMean } from '../errors/nearest.ts';
import { printChange } from '../plan/explain-rerun.ts';
import { closure } from '../plan/graph.ts';
import type { Plan, PlannedStage } from '../plan/types.ts';
import { forecastRun, type StageForecast } from '../run/forecast.ts';
import { agoText, durationText, reasonText } from '../ui/words.ts';
import { type CliIo, writeLines } from './io.ts';
import type { PlanFlags } from './main.ts';
import { preparePlan } from './prepare-plan.ts';

export async function whyCommand(file: string, stage: string, flags: PlanFlags, io: CliIo): Promise<number> {
  const { plan, workspace, numerics } = await preparePlan(file, flags, io);
  const asked = plan.order.filter(({ name, group }) => name === stage || group === stage);
  if (asked.length === 0) {
    const known = plan.order.flatMap(({ name, group }) => [group, name]);
    const hint = didYouMean(stage, [...new Set(known)], 'stages');
    throw new Fr1Error('SELECTION_UNKNOWN_STAGE', `the plan has no stage "${stage}"`, { hint });
  }
  const forecasts = await forecastRun(plan, workspace, numerics);
  const byName = new Map(forecasts.map((forecast) => [forecast.name, forecast]));
  if (flags.json) {
    const list = asked.map(({ name, dependencies }) => ({ ...byName.get(name), dependencies }));
    writeLines(io.stdout, [JSON.stringify({ version: 1, stages: list }, null, 2)]);
    return 0;
  }
  for (const each of asked) writeLines(io.stdout, whyLines(each, plan, byName));
  return 0;
}

export function whyLines(
  stage: PlannedStage,
  plan: Plan,
  forecasts: ReadonlyMap<string, StageForecast>,
  now: number = Date.now(),
): string[] {
  const forecast = forecasts.get(stage.name)!;
  const lines = [`${stage.name}: ${verdict(forecast, now)}`];
  if (forecast.will === 'run' && forecast.reason.kind === 'changed') {
    lines.push(
      '  what differs from its last run:',
      ...forecast.reason.changes.map((each) => `    ${printChange(each)}`),
    );
  }
  if (forecast.will === 'depend') {
    const byName = new Map(plan.order.map((each) => [each.name, each]));
    const before = closure(forecast.on, (name) => byName.get(name)!.dependencies);
    const causes = plan.order.flatMap(({ name }) => {
      const each = forecasts.get(name)!;
      return before.has(name) && each.will === 'run' ? [`    ${name}: ${reasonText(each.reason)}`] : [];
    });
    lines.push('  what runs before it:', ...causes);
  }
  if (stage.if?.constant === undefined && stage.if !== undefined) lines.push(`  if: ${stage.if.text}`);
  if (stage.dependencies.length > 0) lines.push(`  waits for: ${stage.dependencies.join(', ')}`);
  const last = forecast.estimatedMs;
  if (last !== undefined && forecast.will !== 'reuse') lines.push(`  took ${durationText(last)} the last time`);
  return lines;
}

function verdict(forecast: StageForecast, now: number): string {
  switch (forecast.will) {
    case 'reuse':
      return `is cached: nothing that decides its result has changed since ${agoText(forecast.finishedAt, now)}`;
    case 'run':
      return `runs: ${reasonText(forecast.reason)}`;
    case 'depend':
      return `may run: its inputs are made anew; it is reused if they come out as before`;
    case 'skip':
      return forecast.because === undefined
        ? 'is skipped: its condition is false'
        : `is skipped, as ${forecast.because} is`;
    default:
      throw new TypeError(`unknown forecast ${forecast satisfies never}`);
  }
}
