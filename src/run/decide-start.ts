/** Whether a stage may start, once the stages before it have ended. Pure. */
import type { PlannedStage, StageEnding } from '../plan/types.ts';
import type { StageOutputs } from './resolve-stage.ts';
import type { Metric } from './stage-api.ts';

/** How a stage ended, for those that wait for it. A blocked stage counts as failed. */
export type StageEnd =
  | { readonly kind: 'succeeded'; readonly outputs: StageOutputs; readonly metrics: Readonly<Record<string, Metric>> }
  | { readonly kind: 'failed' }
  | { readonly kind: 'skipped' };

export type StartDecision =
  | { readonly kind: 'start' }
  /** A stage that it needs did not succeed. */
  | { readonly kind: 'blocked'; readonly by: string }
  /** Its condition is false, or a stage whose output it takes was skipped. */
  | { readonly kind: 'skipped'; readonly why: string };

/** @throws CONDITION_INVALID when the condition compares a metric that is missing */
export function decideStart(stage: PlannedStage, ends: ReadonlyMap<string, StageEnd>): StartDecision {
  const endingOf = (name: string): StageEnding => ends.get(name)?.kind ?? 'succeeded';
  const failed = stage.dependencies.find((name) => endingOf(name) === 'failed');
  if (failed !== undefined && !stage.if?.toleratesFailure) return { kind: 'blocked', by: failed };

  const taken = stage.inputs.flatMap(({ source }) => (source.kind === 'artifact-ref' ? [source.stage] : []));
  const skipped = taken.find((name) => endingOf(name) === 'skipped');
  if (skipped !== undefined) return { kind: 'skipped', why: `it takes an output of "${skipped}", which was skipped` };

  if (stage.if) {
    const facts = {
      ending: endingOf,
      metric: (name: string, metric: string) => {
        const end = ends.get(name);
        return end?.kind === 'succeeded' ? end.metrics[metric]?.value : undefined;
      },
    };
    if (!stage.if.evaluate(facts, stage.dependencies)) return { kind: 'skipped', why: `if: ${stage.if.text} is false` };
  }
  const missing = taken.find((name) => endingOf(name) === 'failed');
  return missing === undefined ? { kind: 'start' } : { kind: 'blocked', by: missing };
}
