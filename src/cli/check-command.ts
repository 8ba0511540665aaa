/** `fr1 check`: everything that can be known about a pipeline without running it: the file, its data and models, the disk. */
import { Secrets } from '../config/secrets.ts';
import { formatError } from '../errors/format.ts';
import { errorRecordOf } from '../run/error-record.ts';
import { type Preflight, preflight, type StageFindings } from '../run/preflight.ts';
import type { Progress } from '../run/stage-api.ts';
import { bytesText, countOf, countText, oneLine } from '../ui/words.ts';
import { abortOnInterrupt } from './abort-on-interrupt.ts';
import { type CliIo, isTerminal, wantsColour, writeLines } from './io.ts';
import type { CheckCommandFlags } from './main.ts';
import { preparePlan } from './prepare-plan.ts';

export async function checkCommand(file: string, flags: CheckCommandFlags, io: CliIo): Promise<number> {
  const { plan, workspace, numerics } = await preparePlan(file, flags, io);
  const { pipeline } = plan;
  let result: Preflight | undefined;
  if (flags.data) {
    // Read for its problems alone: a run needs these variables to be set.
    Secrets.read(pipeline.env, io.env);
    await using interrupt = abortOnInterrupt(io);
    const progress = progressLine(io, flags.json === true);
    try {
      const { jobs } = flags;
      result = await preflight({
        plan,
        workspace,
        numerics,
        jobs,
        signal: interrupt.signal,
        onProgress: progress.update,
      });
    } finally {
      progress.clear();
    }
  }
  const problems = result === undefined ? [] : [...result.stages.flatMap((each) => each.problems), ...result.problems];
  if (flags.json) {
    const stages = plan.order.map(({ name, definition, dependencies }) => {
      const findings = result?.stages.find(({ stage }) => stage === name);
      return {
        name,
        kind: definition.kind,
        dependencies,
        ...(findings && { ...findings, stage: undefined, problems: findings.problems.map(errorRecordOf) }),
      };
    });
    const rest = result && { disk: result.disk, problems: result.problems.map(errorRecordOf) };
    writeLines(io.stdout, [JSON.stringify({ version: 1, pipeline: pipeline.name, stages, ...rest }, null, 2)]);
  } else {
    writeLines(io.stdout, [
      `${file}: pipeline "${pipeline.name}" is valid, ${countOf(plan.order.length, 'stage')}`,
      ...(result?.stages ?? []).flatMap(findingLines),
      ...(result
        ? [`disk: ${bytesText(result.disk.freeBytes)} free, about ${bytesText(result.disk.neededBytes)} needed`]
        : []),
    ]);
    for (const problem of problems) io.stderr.write(`${formatError(problem, { colour: wantsColour(io) })}\n`);
  }
  return problems.length === 0 ? 0 : 2;
}

function findingLines({ stage, state, found, problems, pending }: StageFindings): string[] {
  const later = pending.length === 0 ? '' : `${found.length === 0 ? '' : '; '}${pending.join(', ')} made later`;
  switch (state) {
    case 'cached':
      return [`  ${stage}: cached`];
    case 'skipped':
      return [`  ${stage}: skipped by its condition`];
    case 'nothing-to-check':
      return [];
    case 'checked': {
      const bad = problems.length === 0 ? '' : `${countOf(problems.length, 'problem')}; `;
      const text = `${bad}${found.join(', ')}${later}`;
      return [`  ${stage}: ${text === '' ? 'nothing to look at yet' : text.replace(/; $/, '')}`];
    }
    default:
      throw new TypeError(`unknown state ${state satisfies never}`);
  }
}

/** One line on a terminal that says what is being looked at; elsewhere nothing. */
function progressLine(io: CliIo, isQuiet: boolean) {
  const { stderr } = io;
  if (isQuiet || !isTerminal(stderr)) return { update: () => undefined, clear: () => undefined };
  const current = new Map<string, Progress>();
  let drawnAt = 0;
  return {
    update(stage: string, progress: Progress | undefined): void {
      if (progress === undefined) current.delete(stage);
      else current.set(stage, progress);
      if (performance.now() - drawnAt < 100) return;
      drawnAt = performance.now();
      const text = [...current].map(([name, each]) => `${name} ${countText(each)}`).join(', ');
      stderr.write(`\r\u001b[2K${oneLine(`checking ${text}`).slice(0, (stderr.columns || 80) - 1)}`);
    },
    clear: () => {
      if (drawnAt > 0) stderr.write('\r\u001b[2K');
    },
  };
}
