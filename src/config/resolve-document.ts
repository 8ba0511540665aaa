/** The merged document with matrices expanded and expressions resolved, stage by stage and cell by cell. */
import type { Fr1Error } from '../errors/fr1-error.ts';
import type { StageDefinition } from '../run/stage-api.ts';
import type { ExpressionResolver, StageFacts } from './expressions.ts';
import { expandMatrix, type Matrix, type MatrixCell } from './matrix.ts';
import { mapEntries } from './read-stage.ts';
import type { StageKinds } from './stage-kinds.ts';
import { childOf, entryOf, type MapEntry, type MapNode, type TreeNode } from './tree.ts';

export interface ResolvedDocument {
  /** To be checked against the document schema; under `stages` the first cell of each stage. */
  readonly document: MapNode;
  /** Documents of one cell each, where cells differ in more than options. */
  readonly variants: readonly MapNode[];
  /** By name in the file. */
  readonly facts: ReadonlyMap<string, StageFacts>;
  readonly stages: readonly ResolvedStage[];
  readonly env: TreeNode | undefined;
  readonly outputs: TreeNode | undefined;
  /** Resolves the variables, last of all: then it is known which are used. */
  vars(isComplete: boolean): TreeNode | undefined;
}

/** A stage or a cell; `entry.key` is the name in the file. */
export interface ResolvedStage {
  readonly entry: MapEntry;
  /** `null` where the kind is unknown or absent. */
  readonly definition: StageDefinition | null;
  readonly cell: MatrixCell | undefined;
}

/** A stage of the file before its expressions are resolved. */
interface StageDraft {
  readonly entry: MapEntry;
  readonly definition: StageDefinition | null;
  /** Resolved values of the keys that all else depends on. */
  readonly known: ReadonlyMap<string, TreeNode>;
  /** `undefined`: it has none; `null`: a wrong one. */
  readonly matrix: Matrix | null | undefined;
}

export async function resolveDocument(
  root: MapNode,
  resolver: ExpressionResolver,
  kinds: StageKinds,
  problems: Fr1Error[],
): Promise<ResolvedDocument> {
  const drafts = await draftStages(root, resolver, kinds, problems);
  const facts = new Map(drafts.map((draft) => [draft.entry.key, factsOf(draft)]));
  resolver.withStages(facts);
  const stages: ResolvedStage[] = [];
  const firsts: MapEntry[] = [];
  const variants: MapNode[] = [];
  const stagesEntry = entryOf(root, 'stages');
  for (const draft of drafts) {
    const resolved = resolveStage(draft, resolver);
    stages.push(...resolved);
    firsts.push(resolved[0]?.entry ?? withoutCells(draft.entry));
    if (resolved.length < 2 || !variesBeyondOptions(draft.entry.value)) continue;
    for (const { entry } of resolved.slice(1)) {
      variants.push({ ...root, entries: [{ ...stagesEntry!, value: { ...root, entries: [entry] } }] });
    }
  }

  const outputs = childOf(root, 'outputs');
  const resolvedOutputs = outputs && resolver.resolve(outputs, 'document');
  const entries = root.entries.map((entry): MapEntry => {
    const { key, value } = entry;
    if (key === 'vars' || key === 'env') return entry;
    if (key === 'seed') return { ...entry, value: resolver.seed() ?? value };
    if (key === 'outputs') return { ...entry, value: withTextForRefs(resolvedOutputs!) };
    if (key === 'stages' && value.kind === 'map') return { ...entry, value: { ...value, entries: firsts } };
    return { ...entry, value: resolver.resolve(value, 'document') };
  });
  const vars = childOf(root, 'vars');
  // What a wrong matrix would have read is not known.
  const isKnown = drafts.every(({ matrix }) => matrix !== null);
  return {
    document: { ...root, entries },
    variants,
    facts,
    stages,
    env: childOf(root, 'env'),
    outputs: resolvedOutputs,
    vars: (isComplete) => vars && resolver.resolveVars(vars, isComplete && isKnown),
  };
}

async function draftStages(
  root: MapNode,
  resolver: ExpressionResolver,
  kinds: StageKinds,
  problems: Fr1Error[],
): Promise<StageDraft[]> {
  const drafts: StageDraft[] = [];
  for (const entry of mapEntries(childOf(root, 'stages'))) {
    const known = new Map<string, TreeNode>();
    const uses = childOf(entry.value, 'uses');
    if (uses !== undefined) known.set('uses', resolver.resolve(uses, 'uses'));
    const matrix = childOf(entry.value, 'matrix');
    if (matrix !== undefined) known.set('matrix', resolver.resolve(matrix, 'matrix'));
    drafts.push({
      entry,
      known,
      definition: await kinds.find(entry, known.get('uses')),
      matrix: matrix && (expandMatrix(entry, known.get('matrix')!, problems) ?? null),
    });
  }
  return drafts;
}

function factsOf({ definition, matrix }: StageDraft): StageFacts {
  const { outputs = null, metrics } = definition ?? {};
  return { outputs, metrics, ...(matrix !== undefined && { matrix }) };
}

function resolveStage({ entry, definition, known, matrix }: StageDraft, resolver: ExpressionResolver): ResolvedStage[] {
  if (matrix === null) return [];
  const cells = matrix?.cells ?? [undefined];
  return cells.map((cell) => {
    const { value } = entry;
    if (value.kind !== 'map')
      return { entry: { ...entry, value: resolver.resolve(value, 'stage', cell) }, definition, cell };
    const entries = value.entries.map((each): MapEntry => {
      // A condition is compiled, not resolved.
      if (each.key === 'if') return each;
      const scope = each.key === 'with' ? 'options' : 'stage';
      return { ...each, value: known.get(each.key) ?? resolver.resolve(each.value, scope, cell) };
    });
    return { entry: { ...entry, value: { ...value, entries } }, definition, cell };
  });
}

/** Stands for a stage whose matrix is wrong, which is told already. */
function withoutCells(entry: MapEntry): MapEntry {
  const { at } = entry.value;
  const uses: MapEntry = { key: 'uses', keyAt: at, value: { kind: 'scalar', value: 'unknown', at } };
  return { ...entry, value: { kind: 'map', entries: [uses], at } };
}

/** Whether expressions stand in keys that the document schema checks. */
function variesBeyondOptions(stage: TreeNode): boolean {
  return mapEntries(stage).some(
    ({ key, value }) => !['uses', 'with', 'if', 'matrix'].includes(key) && hasExpression(value),
  );
}

function hasExpression(node: TreeNode): boolean {
  if (node.kind === 'map') return node.entries.some(({ value }) => hasExpression(value));
  if (node.kind === 'seq') return node.items.some(hasExpression);
  return node.kind === 'scalar' && typeof node.value === 'string' && node.value.includes('${{');
}

/** Text in place of outputs of stages: the document schema knows no references. */
function withTextForRefs(node: TreeNode): TreeNode {
  if (node.kind === 'map') {
    return { ...node, entries: node.entries.map((entry) => ({ ...entry, value: withTextForRefs(entry.value) })) };
  }
  const isRefs = node.kind === 'ref' || (node.kind === 'seq' && node.items.some(({ kind }) => kind === 'ref'));
  return isRefs ? { kind: 'scalar', value: 'an output', at: node.at } : node;
}
