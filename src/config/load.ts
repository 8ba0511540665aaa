/** Pipeline file -> validated pipeline. All problems are collected and told at once, each at its place. */
import { readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { COMMAND_LINE } from '../errors/format.ts';
import { Fr1Error, Fr1Errors, type SourcePosition } from '../errors/fr1-error.ts';
import { didYouMean } from '../errors/nearest.ts';
import type { StageDefinition } from '../run/stage-api.ts';
import { DEFAULT_SEED, ExpressionResolver, variablesNamedIn } from './expressions.ts';
import { documentChecker } from './option-schema.ts';
import { applyOverrides } from './overrides.ts';
import { parseYaml } from './parse-yaml.ts';
import { readOptions } from './read-options.ts';
import { schemaProblems } from './schema-problems.ts';
import { Source } from './source.ts';
import { childOf, entryOf, type MapEntry, type TreeNode, toValue } from './tree.ts';
import type { Expectation, Pipeline, PipelineStage, StageNeed } from './types.ts';

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
  readonly loadPlugin?: ((uses: string, folder: string) => Promise<StageDefinition | undefined>) | undefined;
  readonly cwd: string;
}

/** Reads, overrides, resolves and validates a pipeline. @throws Fr1Errors with every problem, in file order */
export async function loadPipeline(request: LoadRequest): Promise<Pipeline> {
  const absolute = path.resolve(request.cwd, request.file);
  const source = readSource(request.file, absolute);
  const problems: Fr1Error[] = [];

  const parsed = parseYaml(source);
  problems.push(...parsed.problems);
  const { root } = parsed;
  if (root === undefined) {
    if (problems.length === 0) {
      problems.push(
        new Fr1Error('KEY_MISSING', 'the pipeline is empty: "stages" is missing', { at: source.position(0) }),
      );
    }
    throw sorted(problems);
  }
  const { sets = [] } = request;
  const resolver = new ExpressionResolver(root, sets.length === 0 ? [] : variablesNamedIn(root));
  problems.push(...applyOverrides(root, sets));
  const kinds = new Map(request.stages.map((definition) => [definition.kind, definition]));
  const definitions = await findDefinitions(root, resolver, kinds, request, problems);
  const outputs = new Map([...definitions].map(([name, found]) => [name, found?.outputs ?? null]));
  resolver.withStages(outputs);
  const resolved = resolver.resolveDocument(parsed.problems.length === 0);
  problems.push(...resolver.problems);

  const document = toValue(resolved);
  const { errors } = documentChecker()(document as Record<string, unknown>);
  problems.push(...schemaProblems(errors, { root: resolved, prefix: '', keyWord: 'key' }));

  const folder = path.dirname(absolute);
  const stages: PipelineStage[] = [];
  const stageEntries = mapEntries(childOf(resolved, 'stages'));
  for (const entry of stageEntries) {
    const definition = definitions.get(entry.key);
    const needs = readNeeds(entry, stageEntries, problems);
    const expect = readExpectations(entry, definition ?? undefined, problems);
    if (definition === undefined || definition === null) continue;
    const { options, inputs } = readOptions(entry, definition, { folder, outputs, problems });
    stages.push({
      name: entry.key,
      group: entry.key,
      definition,
      options,
      inputs,
      needs,
      expect,
      position: entry.keyAt,
    });
  }
  if (problems.length > 0) throw sorted(problems);

  const { name, seed, vars } = document as { name?: string; seed?: number; vars?: Record<string, unknown> };
  return {
    file: request.file,
    folder,
    name: name ?? path.basename(absolute, path.extname(absolute)),
    seed: seed ?? DEFAULT_SEED,
    vars: vars ?? {},
    env: [],
    outputs: [],
    stages,
  };
}

function readSource(file: string, absolute: string): Source {
  const fail = (
    code: 'PIPELINE_FILE_MISSING' | 'PIPELINE_FILE_UNREADABLE',
    message: string,
    hint?: string,
    cause?: unknown,
  ) => new Fr1Errors([new Fr1Error(code, message, { at: { file, line: 1, col: 1 }, hint, cause })]);
  let bytes: Uint8Array;
  try {
    if (statSync(absolute).isDirectory()) {
      throw fail('PIPELINE_FILE_UNREADABLE', `${file} is a folder`, 'name the pipeline file in it');
    }
    bytes = readFileSync(absolute);
  } catch (cause) {
    if (cause instanceof Fr1Errors) throw cause;
    const { code, message } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') {
      throw fail('PIPELINE_FILE_MISSING', `there is no file ${file}`, 'paths start at the current folder', cause);
    }
    throw fail('PIPELINE_FILE_UNREADABLE', `${file} cannot be read: ${message}`, undefined, cause);
  }
  try {
    return new Source(file, new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw fail('PIPELINE_FILE_UNREADABLE', `${file} is not UTF-8 text`, 'save the file in the encoding UTF-8', cause);
  }
}

/** The definition behind each `uses`; `null` where the kind is unknown or absent. */
async function findDefinitions(
  root: TreeNode,
  resolver: ExpressionResolver,
  kinds: ReadonlyMap<string, StageDefinition>,
  request: LoadRequest,
  problems: Fr1Error[],
): Promise<Map<string, StageDefinition | null>> {
  const definitions = new Map<string, StageDefinition | null>();
  for (const { key, value } of mapEntries(childOf(root, 'stages'))) {
    definitions.set(key, null);
    const uses = entryOf(value, 'uses');
    if (uses === undefined) continue;
    uses.value = resolver.resolve(uses.value, 'uses');
    if (uses.value.kind !== 'scalar' || typeof uses.value.value !== 'string' || uses.value.value === '') continue;
    const kind = uses.value.value;
    const definition = kinds.get(kind) ?? (await findPlugin(kind, uses.value.at, request, problems));
    if (definition === null) continue;
    if (definition === undefined) {
      problems.push(
        new Fr1Error('STAGE_KIND_UNKNOWN', `stage "${key}" uses "${kind}", but there is no such kind of stage`, {
          at: uses.value.at,
          hint: didYouMean(kind, [...kinds.keys()], 'kinds'),
        }),
      );
    } else {
      const written = childOf(value, 'with');
      definitions.set(key, definition.forOptions?.(written && toValue(written)) ?? definition);
    }
  }
  return definitions;
}

/** The plugin of that name; `undefined` when there is none, `null` when it cannot be used, which is then reported. */
async function findPlugin(
  uses: string,
  at: SourcePosition,
  { file, cwd, loadPlugin }: LoadRequest,
  problems: Fr1Error[],
): Promise<StageDefinition | undefined | null> {
  const named = at.file === COMMAND_LINE ? file : at.file;
  try {
    return await loadPlugin?.(uses, path.dirname(path.resolve(cwd, named)));
  } catch (error) {
    if (!(error instanceof Fr1Error)) throw error;
    const { code, message, hint, cause } = error;
    problems.push(new Fr1Error(code, message, { at, hint, cause }));
    return null;
  }
}

function readNeeds(stage: MapEntry, stages: readonly MapEntry[], problems: Fr1Error[]): StageNeed[] {
  const list = childOf(stage.value, 'needs');
  const needs: StageNeed[] = [];
  for (const item of list?.kind === 'seq' ? list.items : []) {
    if (item.kind !== 'scalar' || typeof item.value !== 'string') continue;
    const name = item.value;
    if (stages.some(({ key }) => key === name)) {
      needs.push({ stage: name, position: item.at });
      continue;
    }
    const known = stages.map(({ key }) => key).filter((key) => key !== stage.key);
    problems.push(
      new Fr1Error('STAGE_UNKNOWN_NEED', `stage "${stage.key}" needs "${name}", but no stage has that name`, {
        at: item.at,
        hint: didYouMean(name, known, 'stages'),
      }),
    );
  }
  return needs;
}

function readExpectations(
  stage: MapEntry,
  definition: StageDefinition | undefined,
  problems: Fr1Error[],
): Expectation[] {
  const known = definition?.metrics;
  return mapEntries(childOf(stage.value, 'expect')).map(({ key, keyAt, value }) => {
    if (known !== undefined && !known.includes(key)) {
      problems.push(
        new Fr1Error('METRIC_UNKNOWN', `stage "${stage.key}" returns no metric "${key}"`, {
          at: keyAt,
          hint: didYouMean(key, known, 'its metrics'),
        }),
      );
    }
    const { atLeast, atMost } = bounds(value);
    if (atLeast !== undefined && atMost !== undefined && atLeast > atMost) {
      problems.push(
        new Fr1Error('VALUE_RANGE', `no value of "${key}" is at least ${atLeast} and at most ${atMost}`, { at: keyAt }),
      );
    }
    return {
      metric: key,
      ...(atLeast !== undefined && { atLeast }),
      ...(atMost !== undefined && { atMost }),
      position: keyAt,
    };
  });
}

function bounds(node: TreeNode): { atLeast?: number; atMost?: number } {
  const read = (key: string) => {
    const bound = childOf(node, key);
    return bound?.kind === 'scalar' && typeof bound.value === 'number' ? bound.value : undefined;
  };
  const atLeast = read('atLeast');
  const atMost = read('atMost');
  return { ...(atLeast !== undefined && { atLeast }), ...(atMost !== undefined && { atMost }) };
}

function mapEntries(node: TreeNode | undefined): readonly MapEntry[] {
  return node?.kind === 'map' ? node.entries : [];
}

/** File order, the command line last; the same problem is told once. */
function sorted(problems: readonly Fr1Error[]): Fr1Errors {
  const unique = new Map<string, Fr1Error>();
  for (const problem of problems) {
    const key = JSON.stringify([problem.code, problem.message, problem.at?.file, problem.at?.line, problem.at?.col]);
    if (!unique.has(key)) unique.set(key, problem);
  }
  const rank = ({ at }: Fr1Error): readonly [number, number, number] =>
    at === undefined ? [2, 0, 0] : [at.file === COMMAND_LINE ? 1 : 0, at.line, at.col];
  return new Fr1Errors(
    [...unique.values()].sort((a, b) => {
      const [a0, a1, a2] = rank(a);
      const [b0, b1, b2] = rank(b);
      return a0 - b0 || a1 - b1 || a2 - b2;
    }),
  );
}
