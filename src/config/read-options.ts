/** The options of one stage: validated, defaults filled in, artifacts type-checked, every problem at its place. */
import type { ArtifactType } from '../artifacts/types.ts';
import { Fr1Error, type SourcePosition } from '../errors/fr1-error.ts';
import type { StageDefinition } from '../run/stage-api.ts';
import type { StageFacts } from './expressions.ts';
import { localInput } from './local-input.ts';
import { optionChecker } from './option-schema.ts';
import { misplacedArtifact, schemaProblems } from './schema-problems.ts';
import { secretsNamedIn } from './secrets.ts';
import {
  entryOf,
  FAILED,
  isArtifactRef,
  locate,
  type MapEntry,
  pointerOf,
  pointerSegments,
  type TreeNode,
  toValue,
} from './tree.ts';
import type { ArtifactRef, LocalInput, StageInput } from './types.ts';

export interface OptionSurroundings {
  /** Absolute folder that relative paths start at where the text has none of its own. */
  readonly folder: string;
  /** Outputs of all stages of the pipeline. */
  readonly stages: ReadonlyMap<string, StageFacts>;
  /** Receives what is wrong. */
  readonly problems: Fr1Error[];
}

/** A stage's `with`, as problems are told about it. */
interface OptionText {
  readonly stage: string;
  readonly root: TreeNode;
  readonly rootKeyAt: SourcePosition;
  /** Opens each message. */
  readonly prefix: string;
}

/** @returns options with placeholders for artifacts; incomplete when there were problems */
export function readOptions(
  stage: MapEntry,
  definition: StageDefinition,
  surroundings: OptionSurroundings,
): { options: Record<string, unknown>; inputs: StageInput[] } {
  const withEntry = entryOf(stage.value, 'with');
  const root: TreeNode = withEntry?.value ?? { kind: 'map', entries: [], at: stage.keyAt };
  if (root.kind !== 'map') return { options: {}, inputs: [] };
  const text: OptionText = {
    stage: stage.key,
    root,
    rootKeyAt: withEntry?.keyAt ?? stage.keyAt,
    prefix: `stage "${stage.key}": `,
  };
  const found: Fr1Error[] = [];
  const options = toValue(root) as Record<string, unknown>;
  const { errors, artifacts } = optionChecker(definition)(options);
  found.push(...schemaProblems(errors, { root, rootKeyAt: text.rootKeyAt, prefix: text.prefix, keyWord: 'option' }));

  const inputs: StageInput[] = [];
  for (const { pointer, accepts } of artifacts) {
    const { node } = locate(root, pointer, text.rootKeyAt);
    const source = artifactAt(getAt(options, pointer), pointer, accepts, node, text, surroundings);
    if (source instanceof Fr1Error) {
      found.push(source);
      continue;
    }
    setAt(options, pointer, source);
    inputs.push({ pointer, source, position: node.at });
  }
  const told = new Set([...artifacts.map(({ pointer }) => pointer), ...errors.map(({ instancePath }) => instancePath)]);
  found.push(...misplacedRefs(text, told));
  if (found.length === 0 && !containsFailed(options)) found.push(...optionConflicts(definition, options, text));
  surroundings.problems.push(...found);
  return { options, inputs: inputs.sort((a, b) => (a.pointer < b.pointer ? -1 : 1)) };
}

/** Where the option at a JSON pointer was written; of one that was not, the key of what would hold it. */
export function optionPosition(stage: MapEntry, pointer: string): SourcePosition {
  const given = entryOf(stage.value, 'with');
  return given === undefined ? stage.keyAt : positionIn(given.value, pointer, given.keyAt);
}

function positionIn(root: TreeNode, pointer: string, rootKeyAt: SourcePosition): SourcePosition {
  const { node, keyAt, exact } = locate(root, pointer, rootKeyAt);
  return exact && pointer !== '' ? node.at : (keyAt ?? node.at);
}

/** `value` has passed the keyword `artifact`: it is a reference or a text. */
function artifactAt(
  value: unknown,
  pointer: string,
  accepts: readonly ArtifactType[],
  node: TreeNode,
  { stage: owner, prefix }: OptionText,
  { folder, stages }: OptionSurroundings,
): ArtifactRef | LocalInput | Fr1Error {
  const name = pointerSegments(pointer).join('.');
  const { at } = node;
  if (!isArtifactRef(value)) {
    if (secretsNamedIn(String(value)).length > 0) {
      return new Fr1Error('ENV_MISPLACED', `${prefix}option "${name}" is a path, and a secret cannot be part of it`, {
        at,
      });
    }
    const ownFolder = node.kind === 'scalar' ? node.folder : undefined;
    const input = localInput(String(value), accepts, ownFolder ?? folder);
    if (!('problem' in input)) return input;
    return new Fr1Error(input.problem, `${prefix}option "${name}": ${input.message}`, { at, hint: input.hint });
  }
  if (accepts.includes(value.type)) return value;
  const output = `stages.${value.stage}.outputs.${value.output}`;
  const wanted = accepts.join(' or ');
  const message = `option "${name}" takes an artifact of type ${wanted}, but ${output} is of type ${value.type}`;
  const fitting = [...stages].flatMap(([stage, { outputs }]) =>
    Object.entries(outputs ?? {})
      .filter(([, { type }]) => accepts.includes(type) && stage !== owner)
      .map(([each]) => `stages.${stage}.outputs.${each}`),
  );
  const hint = fitting.length === 0 ? 'no stage here makes one' : `of that type: ${fitting.slice(0, 6).join(', ')}`;
  return new Fr1Error('ARTIFACT_TYPE', prefix + message, { at, hint });
}

/** Outputs of stages in options that take none; `told` are the pointers that need no further word. */
function misplacedRefs({ root, prefix }: OptionText, told: ReadonlySet<string>): Fr1Error[] {
  const found: Fr1Error[] = [];
  const visit = (node: TreeNode, segments: readonly (string | number)[]): void => {
    if (segments.length > 0 && told.has(pointerOf(segments))) return;
    if (node.kind === 'map') for (const { key, value } of node.entries) visit(value, [...segments, key]);
    else if (node.kind === 'seq') for (const [i, item] of node.items.entries()) visit(item, [...segments, i]);
    else if (node.kind === 'ref') {
      found.push(misplacedArtifact(prefix, `option "${segments.join('.')}"`, node.at));
    }
  };
  visit(root, []);
  return found;
}

function optionConflicts(
  definition: StageDefinition,
  options: Record<string, unknown>,
  { root, rootKeyAt, prefix }: OptionText,
): Fr1Error[] {
  return (definition.validate?.(options) ?? []).map(({ pointer, message, hint }) => {
    const at = positionIn(root, pointer, rootKeyAt);
    return new Fr1Error('OPTION_CONFLICT', prefix + message, { at, hint });
  });
}

function containsFailed(value: unknown): boolean {
  if (value === FAILED) return true;
  if (value === null || typeof value !== 'object') return false;
  return Object.values(value).some(containsFailed);
}

function getAt(options: Record<string, unknown>, pointer: string): unknown {
  return pointerSegments(pointer).reduce<unknown>(
    (value, segment) => (value as Record<string, unknown> | undefined)?.[segment],
    options,
  );
}

function setAt(options: Record<string, unknown>, pointer: string, value: unknown): void {
  const segments = pointerSegments(pointer);
  const last = segments.pop();
  if (last === undefined) return;
  const parent = getAt(options, pointerOf(segments)) as Record<string, unknown>;
  parent[last] = value;
}
