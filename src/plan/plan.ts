/** Pipeline + selection -> plan. */
import { COMMAND_LINE } from '../errors/format.ts';
import { Fr1Error, Fr1Errors } from '../errors/fr1-error.ts';
import { didYouMean } from '../errors/nearest.ts';
import { closure, cycleErrors, followersOf, graphOf, topologicalOrder } from './graph.ts';
import { stageSeed } from './seed.ts';
import type { Pipeline, Plan, PlannedStage, Selection } from './types.ts';

/**
 * Orders the stages and applies the selection.
 *
 * @throws Fr1Errors with STAGE_CYCLE, SELECTION_UNKNOWN_STAGE, SELECTION_NOT_PLANNED
 */
export function planPipeline(pipeline: Pipeline, selection: Selection = {}): Plan {
  const graph = graphOf(pipeline.stages);
  const names = [...graph.keys()];
  const named = selection.force === true ? [] : (selection.force ?? []);
  const problems = [
    ...cycleErrors(graph),
    ...unknownStages('--only', selection.only ?? [], names),
    ...unknownStages('--force', named, names),
  ];
  if (problems.length > 0) throw new Fr1Errors(problems);

  const followers = followersOf(graph);
  const chosen =
    selection.only === undefined
      ? new Set(names)
      : closure(selection.only, (name) => graph.get(name)!.map(({ to }) => to));
  const leftOutForced = named.filter((name) => !chosen.has(name));
  if (leftOutForced.length > 0) {
    throw new Fr1Errors(
      leftOutForced.map(
        (name) =>
          new Fr1Error('SELECTION_NOT_PLANNED', `--force names the stage "${name}", but --only leaves it out`, {
            at: argument('--force', name),
            hint: `add ${name} to --only, or leave it out of --force`,
          }),
      ),
    );
  }
  const forced = selection.force === true ? new Set(names) : closure(named, (name) => followers.get(name)!);

  const byName = new Map(pipeline.stages.map((stage) => [stage.name, stage]));
  const order = topologicalOrder(graph);
  const rank = new Map(order.map((name, i) => [name, i]));
  return {
    pipeline,
    order: order
      .filter((name) => chosen.has(name))
      .map((name): PlannedStage => {
        const stage = byName.get(name)!;
        return {
          ...stage,
          dependencies: graph
            .get(name)!
            .map(({ to }) => to)
            .sort((a, b) => rank.get(a)! - rank.get(b)!),
          seed: stageSeed(pipeline.seed, name, stage.options),
          resources: { ...stage.definition.resources(stage.options), ...stage.resources },
          forced: forced.has(name),
        };
      }),
    leftOut: names.filter((name) => !chosen.has(name)),
  };
}

function unknownStages(flag: string, given: readonly string[], known: readonly string[]): Fr1Error[] {
  return given
    .filter((name) => !known.includes(name))
    .map(
      (name) =>
        new Fr1Error('SELECTION_UNKNOWN_STAGE', `${flag}: there is no stage "${name}"`, {
          at: argument(flag, name),
          hint: didYouMean(name, known, 'stages'),
        }),
    );
}

/** The place of a name in an argument such as `--only sft`. */
function argument(flag: string, name: string) {
  const col = flag.length + 2;
  return { file: COMMAND_LINE, line: 1, col, endCol: col + name.length, lineText: `${flag} ${name}` };
}
