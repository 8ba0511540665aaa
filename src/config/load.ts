/** Pipeline file -> validated pipeline. All problems are collected and told at once, each at its place. */
import path from 'node:path';
import { COMMAND_LINE } from '../errors/format.ts';
import { Fr1Error, Fr1Errors } from '../errors/fr1-error.ts';
import type { StageDefinition } from '../run/stage-api.ts';
import { emptyInputs } from './empty-outputs.ts';
import { DEFAULT_SEED, ExpressionResolver, type StageFacts, variablesNamedIn } from './expressions.ts';
import { loadTree } from './extends.ts';
import { documentChecker } from './option-schema.ts';
import { applyOverrides } from './overrides.ts';
import { readEnv } from './read-env.ts';
import { optionPosition, readOptions } from './read-options.ts';
import { readOutputs } from './read-outputs.ts';
import { readSource } from './read-source.ts';
import { readExpectations, readNeeds, readResources, readRetry, readTimeout, StageNames } from './read-stage.ts';
import { type ResolvedStage, resolveDocument } from './resolve-document.ts';
import { schemaProblems } from './schema-problems.ts';
import { type LoadPlugin, StageKinds } from './stage-kinds.ts';
import { entryOf, type TreeNode, toValue } from './tree.ts';
import type { Pipeline, PipelineStage } from './types.ts';
import { unreachableStages } from './unreachable.ts';

export interface LoadRequest {
  /** Path of the pipeline file, relative to `cwd` or absolute. */
  readonly file: string;
  /** Overrides as given to `--set`, e.g. `vars.learningRate=1e-4`. */
  readonly sets?: readonly string[];
  readonly stages: readonly StageDefinition[];
  /**
   * Finds a kind that is not among `stages`: a path or a package, relative to the absolute folder of the file that names
   * it; `undefined` when it is neither. @throws Fr1Error when there is one that cannot be used
   */
  readonly loadPlugin?: LoadPlugin | undefined;
  readonly cwd: string;
}

/** Reads, merges, overrides, expands, resolves and validates a pipeline. @throws Fr1Errors with every problem */
export async function loadPipeline(request: LoadRequest): Promise<Pipeline> {
  const absolute = path.resolve(request.cwd, request.file);
  const { root, source, problems, isComplete } = readTree(request.file, absolute);
  if (root?.kind !== 'map') {
    if (root !== undefined) problems.push(...documentProblems(root));
    else if (problems.length === 0) {
      problems.push(
        new Fr1Error('KEY_MISSING', 'the pipeline is empty: "stages" is missing', { at: source.position(0) }),
      );
    }
    throw sorted(problems, request.file);
  }
  const { sets = [] } = request;
  const resolver = new ExpressionResolver(root, sets.length === 0 ? [] : variablesNamedIn(root));
  problems.push(...applyOverrides(root, sets));
  const folder = path.dirname(absolute);
  const kinds = new StageKinds(request.stages, request.loadPlugin, folder, problems);
  const resolved = await resolveDocument(root, resolver, kinds, problems);
  problems.push(...documentProblems(resolved.document), ...resolved.variants.flatMap(documentProblems));

  const surroundings = {
    folder,
    stages: resolved.facts,
    names: new StageNames(resolved.facts),
    resolver,
    problems,
  };
  const stages = resolved.stages.flatMap((stage) => readStage(stage, surroundings));
  const vars = resolved.vars(isComplete);
  const env = readEnv(resolved.env, problems);
  const outputs = readOutputs(resolved.outputs, absolute, problems);
  if (problems.length === 0) resolver.checkSecretsUsed(env);
  problems.push(...resolver.problems);
  if (problems.length === 0) problems.push(...unreachableStages(stages), ...emptyInputs(stages));
  if (problems.length > 0) throw sorted(problems, request.file);

  const { name, seed } = toValue(resolved.document) as { name?: string; seed?: number };
  return {
    file: request.file,
    folder,
    name: name ?? path.basename(absolute, path.extname(absolute)),
    seed: seed ?? DEFAULT_SEED,
    vars: vars === undefined ? {} : (toValue(vars) as Record<string, unknown>),
    env,
    outputs,
    stages,
  };
}

function readTree(file: string, absolute: string) {
  try {
    const source = readSource(file, absolute, {
      missing: 'PIPELINE_FILE_MISSING',
      unreadable: 'PIPELINE_FILE_UNREADABLE',
      at: { file, line: 1, col: 1 },
      hint: 'paths start at the current folder',
    });
    const { root, problems } = loadTree(source, absolute);
    return { root, source, problems: [...problems], isComplete: problems.length === 0 };
  } catch (problem) {
    if (problem instanceof Fr1Error) throw new Fr1Errors([problem]);
    throw problem;
  }
}

function documentProblems(root: TreeNode): Fr1Error[] {
  const { errors } = documentChecker()(toValue(root) as Record<string, unknown>);
  return schemaProblems(errors, { root, prefix: '', keyWord: 'key' });
}

interface StageSurroundings {
  readonly folder: string;
  readonly stages: ReadonlyMap<string, StageFacts>;
  readonly names: StageNames;
  readonly resolver: ExpressionResolver;
  readonly problems: Fr1Error[];
}

/** One stage or cell; none where its kind is unknown, which is told already. */
function readStage({ entry, definition, cell }: ResolvedStage, surroundings: StageSurroundings): PipelineStage[] {
  const { names, resolver, problems } = surroundings;
  const condition = entryOf(entry.value, 'if');
  const runsIf = condition && resolver.condition(condition.value, cell);
  const retry = readRetry(entry, problems);
  const timeoutMs = readTimeout(entry, problems);
  const resources = readResources(entry, problems);
  const rest = {
    needs: readNeeds(entry, names, problems),
    expect: readExpectations(entry, definition ?? undefined, names, problems),
    ...(runsIf && { if: runsIf }),
    ...(retry && { retry }),
    ...(timeoutMs !== undefined && { timeoutMs }),
    ...(resources && { resources }),
    position: entry.keyAt,
    positionOf: (pointer: string) => optionPosition(entry, pointer),
  };
  if (definition === null) return [];
  const matrix = cell && Object.fromEntries([...cell.values].map(([axis, value]) => [axis, toValue(value)]));
  const { options, inputs } = readOptions(entry, definition, surroundings);
  return [
    { name: cell?.id ?? entry.key, group: entry.key, ...(matrix && { matrix }), definition, options, inputs, ...rest },
  ];
}

/** The file's own problems in its order, then those of files that it extends, the command line last; each told once. */
function sorted(problems: readonly Fr1Error[], file: string): Fr1Errors {
  const unique = new Map<string, Fr1Error>();
  for (const problem of problems) {
    const key = JSON.stringify([problem.code, problem.message, problem.at?.file, problem.at?.line, problem.at?.col]);
    if (!unique.has(key)) unique.set(key, problem);
  }
  const files = [...new Set(problems.map(({ at }) => at?.file))].filter((each) => each !== file).sort();
  const rank = ({ at }: Fr1Error): readonly number[] => {
    if (at === undefined) return [files.length + 2, 0, 0];
    const place = at.file === file ? 0 : at.file === COMMAND_LINE ? files.length + 1 : 1 + files.indexOf(at.file);
    return [place, at.line, at.col];
  };
  return new Fr1Errors(
    [...unique.values()]
      .map((problem) => ({ problem, rank: rank(problem) }))
      .sort(({ rank: a }, { rank: b }) => a[0]! - b[0]! || a[1]! - b[1]! || a[2]! - b[2]!)
      .map(({ problem }) => problem),
  );
}
