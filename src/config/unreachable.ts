/** Stages that can never run, although their own text is right. */
import { Fr1Error } from '../errors/fr1-error.ts';
import type { PipelineStage } from './types.ts';

/**
 * A stage that takes an output of one with `if: false`, or whose condition asks for a failure with nothing before it that
 * could fail. A condition that variables make false is a choice of this run: it skips what follows, and is no problem.
 */
export function unreachableStages(stages: readonly PipelineStage[]): Fr1Error[] {
  const never = new Set(stages.filter(isOff).map(({ name }) => name));
  const problems: Fr1Error[] = [];
  for (const stage of stages) {
    if (stage.if?.constant === false) continue;
    const dead = stage.inputs.find(({ source }) => source.kind === 'artifact-ref' && never.has(source.stage));
    if (dead?.source.kind === 'artifact-ref') {
      problems.push(
        new Fr1Error(
          'STAGE_UNREACHABLE',
          `stage "${stage.name}" can never run: it takes an output of "${dead.source.stage}", whose condition is never met`,
          { at: dead.position, hint: 'give this stage the same condition, or take the output of another stage' },
        ),
      );
      continue;
    }
    const hasNoOthers =
      stage.needs.length === 0 &&
      stage.inputs.every(({ source }) => source.kind === 'local-input') &&
      stage.expect.every(({ betterThan }) => betterThan === undefined);
    if (stage.if === undefined || stage.if.constant !== undefined || stage.if.stages.length > 0 || !hasNoOthers)
      continue;
    const outcome = stage.if.evaluate({ ending: () => 'succeeded', metric: () => undefined }, []);
    if (outcome) continue;
    problems.push(
      new Fr1Error('STAGE_UNREACHABLE', `stage "${stage.name}" can never run: nothing before it can fail`, {
        at: stage.if.position,
        hint: 'name the stages to wait for under "needs"',
      }),
    );
  }
  return problems;
}

/** Whether the condition is false whatever the variables are. */
function isOff(stage: PipelineStage): boolean {
  return stage.if?.constant === false && !/\b(?:vars|seed|matrix)\b/.test(stage.if.text);
}
