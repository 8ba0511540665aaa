/** Pipeline + selection -> plan. */
import { COMMAND_LINE } from '../errors/format.ts';
import { Fr1Error, Fr1Errors } from '../errors/fr1-error.ts';
import { didYouMean } from '../errors/nearest.ts';
import { closure, cycleErrors, followersOf, type Graph, graphOf, topologicalOrder } from './graph.ts';
import { stageSeed } from './seed.ts';
import type { Pipeline, Plan, PlannedStage, Selection } from './types.ts';

/**
 * Orders the stages and applies the selection. A selection names stages of the file, all cells of a matrix with one name,
 * or single cells.
 *
 * @throws Fr1Errors with STAGE_CYCLE, SELECTION_UNKNOWN_STAGE, SELECTION_NOT_PLANNED
 */
export function planPipeline(pipeline: Pipeline, selection: Selection = {}): Plan {
  const graph = graphOf(pipeline.stages);
  const names = [...graph.keys()];
  const problems = cycleErrors(graph);
  const groups = groupsOf(pipeline);
  const idsOf = (flag: string, given: readonly string[] | undefined): string[] | undefined =>
    given?.flatMap((name) => {
      const ids = groups.get(name);
      if (ids === undefined) problems.push(unknownStage(flag, name, groups));
      return ids ?? [];
    });
  const only = idsOf('--only', selection.only);
  const from = idsOf('--from', selection.from);
  const until = idsOf('--until', selection.until);
  const named = selection.force === true ? [] : (selection.force ?? []);
  const namedIds = idsOf('--force', named) ?? [];
  if (problems.length > 0) throw new Fr1Errors(problems);

  const followers = followersOf(graph);
  const chosen = choose(graph, followers, { only, from, until });
  const leftOutForced = named.filter((name) => !groups.get(name)!.some((id) => chosen.has(id)));
  if (leftOutForced.length > 0) {
    throw new Fr1Errors(
      leftOutForced.map(
        (name) =>
          new Fr1Error('SELECTION_NOT_PLANNED', `--force names the stage "${name}", but the selection leaves it out`, {
            at: argument('--force', name),
            hint: 'change --only, --from or --until, or leave it out of --force',
          }),
      ),
    );
  }
  const forced = selection.force === true ? new Set(names) : closure(namedIds, (name) => followers.get(name)!);

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

interface ChosenIds {
  readonly only: readonly string[] | undefined;
  readonly from: readonly string[] | undefined;
  readonly until: readonly string[] | undefined;
}

/** What the selection names, less what follows from `until`, and all that these need. */
function choose(graph: Graph, followers: ReadonlyMap<string, readonly string[]>, { only, from, until }: ChosenIds) {
  const needsOf = (name: string) => graph.get(name)!.map(({ to }) => to);
  const after = closure(
    (until ?? []).flatMap((name) => followers.get(name)!),
    (name) => followers.get(name)!,
  );
  const downstream = from === undefined ? undefined : closure(from, (name) => followers.get(name)!);
  const onlySet = only && new Set(only);
  const wanted = [...graph.keys()].filter((name) => {
    if (onlySet !== undefined && !onlySet.has(name)) return false;
    return !after.has(name) && (downstream === undefined || downstream.has(name));
  });
  return closure(wanted, needsOf);
}

/** Ids by each name that a selection may use: a cell, a stage, or a stage with a matrix for all its cells. */
function groupsOf(pipeline: Pipeline): ReadonlyMap<string, readonly string[]> {
  const groups = new Map<string, string[]>();
  for (const { name, group } of pipeline.stages) {
    const cells = groups.get(group);
    if (cells === undefined) groups.set(group, [name]);
    else cells.push(name);
  }
  for (const { name } of pipeline.stages) if (!groups.has(name)) groups.set(name, [name]);
  return groups;
}

function unknownStage(flag: string, name: string, groups: ReadonlyMap<string, readonly string[]>): Fr1Error {
  return new Fr1Error('SELECTION_UNKNOWN_STAGE', `${flag}: there is no stage "${name}"`, {
    at: argument(flag, name),
    hint: didYouMean(name, [...groups.keys()], 'stages'),
  });
}

/** The place of a name in an argument such as `--only sft`. */
function argument(flag: string, name: string) {
  const col = flag.length + 2;
  return { file: COMMAND_LINE, line: 1, col, endCol: col + name.length, lineText: `${flag} ${name}` };
}
