/** Violations of a JSON Schema, told at the place in the user's text where they arise. */
import type { ErrorObject } from 'ajv';
import type { ErrorCode } from '../errors/catalogue.ts';
import { Fr1Error, type SourcePosition } from '../errors/fr1-error.ts';
import { didYouMean, nearest } from '../errors/nearest.ts';
import { describe, entryOf, FAILED, isArtifactRef, locate, pointerOf, pointerSegments, type TreeNode } from './tree.ts';

/** The part of the document that a schema was applied to. */
export interface SchemaSubject {
  readonly root: TreeNode;
  /** Where the key stands that names `root`; the document itself has none. */
  readonly rootKeyAt?: SourcePosition;
  /** Opens each message, e.g. `stage "sft": `. */
  readonly prefix: string;
  /** How a key at the top of `root` is called: `option`, `key`. */
  readonly keyWord: string;
}

/** Errors as ajv gives them with `allErrors` and `verbose`. */
export function schemaProblems(errors: readonly ErrorObject[], subject: SchemaSubject): Fr1Error[] {
  return simplify(errors).map((error) => problemOf(error, subject));
}

/** What is left to tell once failed values and the alternatives of anyOf and oneOf are sorted out. */
type Violation = ErrorObject | MixedViolation;

/** No alternative fits; `choices` are the constants or types that would. */
interface MixedViolation {
  readonly mixed: 'choices' | 'types' | 'forms';
  readonly instancePath: string;
  readonly data: unknown;
  readonly choices: readonly string[];
}

function simplify(errors: readonly ErrorObject[]): Violation[] {
  const told = new Set<ErrorObject>();
  const result: Violation[] = [];
  // Outer alternatives come after inner ones in ajv's list.
  for (let i = errors.length - 1; i >= 0; i--) {
    const error = errors[i]!;
    if (told.has(error) || error.data === FAILED || error.keyword === 'if' || error.keyword === 'propertyNames')
      continue;
    if (error.keyword !== 'anyOf' && error.keyword !== 'oneOf') {
      result.unshift(error);
      continue;
    }
    const branches = branchErrors(errors.slice(0, i), error);
    for (const branch of branches) for (const each of branch) told.add(each);
    if (branches.length === 0) result.unshift(error);
    else result.unshift(...simplifyBranches(branches, error));
  }
  return result;
}

function branchErrors(earlier: readonly ErrorObject[], composite: ErrorObject): ErrorObject[][] {
  const branches = new Map<string, ErrorObject[]>();
  for (const error of earlier) {
    if (!isWithin(error.instancePath, composite.instancePath)) continue;
    const inline = error.schemaPath.startsWith(`${composite.schemaPath}/`);
    const shared = /^#\/(?:\$defs|definitions)\/[^/]+/.exec(error.schemaPath)?.[0];
    const branch = inline ? error.schemaPath.slice(composite.schemaPath.length + 1).split('/')[0]! : shared;
    if (branch === undefined) continue;
    branches.set(branch, [...(branches.get(branch) ?? []), error]);
  }
  return [...branches.values()];
}

function simplifyBranches(branches: readonly ErrorObject[][], composite: ErrorObject): Violation[] {
  const { instancePath, data } = composite;
  const rootErrors = branches.map((branch) => branch.filter((error) => error.instancePath === instancePath));
  const meant = branches.filter((branch) => !branch.some((error) => rulesOut(error, instancePath)));
  if (meant.length === 1) return simplify(meant[0]!);
  if (meant.length > 1) return [{ mixed: 'forms', instancePath, data, choices: [] }];
  const tags = branches.flatMap((branch) =>
    branch.filter((error) => isTag(error) && error.instancePath !== instancePath),
  );
  const tagPath = tags[0]?.instancePath;
  if (
    tagPath !== undefined &&
    tags.length >= branches.length &&
    tags.every((error) => error.instancePath === tagPath)
  ) {
    return [{ mixed: 'choices', instancePath: tagPath, data: tags[0]!.data, choices: tags.flatMap(choicesOf) }];
  }
  if (rootErrors.every((list) => list.some(isTag))) {
    return [{ mixed: 'choices', instancePath, data, choices: rootErrors.flat().filter(isTag).flatMap(choicesOf) }];
  }
  const choices = rootErrors
    .flat()
    .flatMap((error) => (error.keyword === 'type' ? typeNames(error) : isTag(error) ? choicesOf(error) : []));
  if (choices.length > 0) return [{ mixed: 'types', instancePath, data, choices }];
  return [{ mixed: 'forms', instancePath, data, choices: [] }];
}

/** Whether the error shows that the user meant another alternative: another type, or another tag. */
function rulesOut(error: ErrorObject, instancePath: string): boolean {
  if (error.instancePath === instancePath)
    return error.keyword === 'type' || error.keyword === 'artifact' || isTag(error);
  const depth = pointerSegments(error.instancePath).length - pointerSegments(instancePath).length;
  return depth === 1 && error.keyword === 'const';
}

function isTag(error: ErrorObject): boolean {
  return error.keyword === 'const' || error.keyword === 'enum';
}

function choicesOf(error: ErrorObject): string[] {
  const values =
    error.keyword === 'const' ? [error.params['allowedValue']] : (error.params['allowedValues'] as unknown[]);
  return values.map((value) => (typeof value === 'string' ? value : JSON.stringify(value)));
}

function isWithin(path: string, parent: string): boolean {
  return path === parent || path.startsWith(`${parent}/`);
}

const TYPE_NAMES: Readonly<Record<string, string>> = {
  object: 'a mapping',
  array: 'a list',
  string: 'text',
  number: 'a number',
  integer: 'a whole number',
  boolean: 'true or false',
  null: 'empty',
};

function typeNames(error: ErrorObject): string[] {
  const types: unknown = error.params['type'];
  return (Array.isArray(types) ? types : String(types).split(',')).map(
    (type) => TYPE_NAMES[String(type)] ?? String(type),
  );
}

function problemOf(violation: Violation, subject: SchemaSubject): Fr1Error {
  const { node, keyAt, exact } = locate(subject.root, violation.instancePath, subject.rootKeyAt);
  const name = nameOf(violation.instancePath, subject);
  const via = node.via === undefined ? '' : ` (from ${node.via})`;
  const is = exact ? `, but is ${describe(violation.data)}${via}` : '';
  const make = (code: ErrorCode, message: string, at: SourcePosition, hint?: string) =>
    new Fr1Error(code, subject.prefix + message, { at, hint });

  if (isArtifactRef(violation.data)) return misplacedArtifact(subject.prefix, name, node.at);
  if ('mixed' in violation) {
    const choices = [...new Set(violation.choices)];
    if (violation.mixed === 'choices') {
      const hint = typeof violation.data === 'string' ? didYouMean(violation.data, choices, 'choices') : undefined;
      return make('VALUE_NOT_ALLOWED', `${name} must be one of ${choices.join(', ')}${is}`, node.at, hint);
    }
    if (violation.mixed === 'types') return make('VALUE_TYPE', `${name} must be ${either(choices)}${is}`, node.at);
    return make('VALUE_INVALID', `${name} fits none of the forms that it may have`, node.at);
  }

  const { params, keyword } = violation;
  switch (keyword) {
    case 'required': {
      const missing = `${violation.instancePath}${pointerOf([String(params['missingProperty'])])}`;
      return make('KEY_MISSING', `${nameOf(missing, subject)} is missing`, keyAt ?? node.at, missingHint(violation));
    }
    case 'additionalProperties':
    case 'unevaluatedProperties': {
      const key = String(params['additionalProperty'] ?? params['unevaluatedProperty']);
      const at = entryOf(node, key)?.keyAt ?? node.at;
      const known = Object.keys((violation.parentSchema?.['properties'] as object | undefined) ?? {});
      const hint =
        key === '<<' ? 'YAML 1.2 has no merge keys: write the keys out' : didYouMean(key, known, 'known here');
      const where = violation.instancePath === '' ? '' : ` in ${name}`;
      const keyWord = violation.instancePath === '' ? subject.keyWord : 'key';
      return make('KEY_UNKNOWN', `there is no ${keyWord} "${key}"${where}`, at, hint);
    }
    case 'type': {
      const types = typeNames(violation);
      const hint = typeHint(violation) ?? purposeHint(violation);
      return make('VALUE_TYPE', `${name} must be ${either(types)}${is}`, node.at, hint);
    }
    case 'artifact': {
      const wanted = (violation.schema as string[]).join(' or ');
      const [cell] = Array.isArray(violation.data) ? violation.data.filter(isArtifactRef) : [];
      const hint =
        cell === undefined
          ? 'give an output of a stage, ${{ stages.name.outputs.name }}, or the path of a folder'
          : `name one of the cells, e.g. \${{ stages['${cell.stage}'].outputs.${cell.output} }}`;
      return make('VALUE_TYPE', `${name} takes an artifact of type ${wanted}${is}`, node.at, hint);
    }
    case 'enum':
    case 'const': {
      const choices = choicesOf(violation);
      const best = typeof violation.data === 'string' ? nearest(violation.data, choices) : undefined;
      const hint = best === undefined ? purposeHint(violation) : `did you mean "${best}"?`;
      return make('VALUE_NOT_ALLOWED', `${name} must be ${either(choices)}${is}`, node.at, hint);
    }
    case 'minimum':
    case 'maximum':
    case 'exclusiveMinimum':
    case 'exclusiveMaximum': {
      const bound = `${BOUND_NAMES[keyword]} ${String(params['limit'])}`;
      return make('VALUE_RANGE', `${name} must be ${bound}${is}`, node.at, purposeHint(violation));
    }
    case 'minLength':
    case 'maxLength':
    case 'minItems':
    case 'maxItems':
    case 'minProperties':
    case 'maxProperties': {
      const limit = Number(params['limit']);
      const [one, many] = COUNTED[keyword.slice(3) as keyof typeof COUNTED];
      const bound = `${keyword.startsWith('min') ? 'at least' : 'at most'} ${limit} ${limit === 1 ? one : many}`;
      const at =
        violation.propertyName === undefined ? node.at : (entryOf(node, violation.propertyName)?.keyAt ?? node.at);
      const subjectName = violation.propertyName === undefined ? name : `the name "${violation.propertyName}"`;
      const place = keyword.endsWith('Properties') ? (keyAt ?? at) : at;
      return make('VALUE_RANGE', `${subjectName} must have ${bound}`, place, purposeHint(violation));
    }
    case 'pattern': {
      if (violation.propertyName !== undefined) {
        const at = entryOf(node, violation.propertyName)?.keyAt ?? node.at;
        return make('VALUE_INVALID', `"${violation.propertyName}" is not a valid name`, at, NAME_HINT);
      }
      return make(
        'VALUE_INVALID',
        `${name} must match ${String(params['pattern'])}${is}`,
        node.at,
        purposeHint(violation),
      );
    }
    case 'multipleOf':
      return make(
        'VALUE_INVALID',
        `${name} must be a multiple of ${String(params['multipleOf'])}${is}`,
        node.at,
        purposeHint(violation),
      );
    case 'uniqueItems': {
      const at = locate(subject.root, `${violation.instancePath}/${String(params['i'])}`).node.at;
      return make('VALUE_INVALID', `${name} has the same item twice`, at);
    }
    default:
      return make('VALUE_INVALID', `${name} ${violation.message ?? 'is not valid'}`, node.at);
  }
}

const NAME_HINT = 'a name starts with a letter and has letters, digits, - and _ only';

const COUNTED = {
  Length: ['character', 'characters'],
  Items: ['item', 'items'],
  Properties: ['entry', 'entries'],
} as const;

const BOUND_NAMES = {
  minimum: 'at least',
  maximum: 'at most',
  exclusiveMinimum: 'greater than',
  exclusiveMaximum: 'less than',
} as const;

/** `option "teacher.kind"`, `"seed"`, `the document`. */
function nameOf(pointer: string, subject: SchemaSubject): string {
  const segments = pointerSegments(pointer);
  if (segments.length === 0) return subject.keyWord === 'option' ? 'the options' : 'the pipeline';
  const path = segments.map((segment, i) =>
    /^\d+$/.test(segment) ? `[${segment}]` : i === 0 ? segment : `.${segment}`,
  );
  return subject.keyWord === 'option' ? `option "${path.join('')}"` : `"${path.join('')}"`;
}

/** The schema's own description of what is missing. */
function missingHint(violation: ErrorObject): string | undefined {
  const properties = violation.parentSchema?.['properties'] as Record<string, { description?: string }> | undefined;
  const missing = properties?.[String(violation.params['missingProperty'])];
  return missing?.description === undefined
    ? undefined
    : `${violation.params['missingProperty']}: ${missing.description}`;
}

/** What the value is for and what it is without one, in the schema's words. */
function purposeHint(violation: ErrorObject): string | undefined {
  const key = pointerSegments(violation.instancePath).at(-1);
  const { description, default: fallback } = (violation.parentSchema ?? {}) as {
    description?: string;
    default?: unknown;
  };
  if (key === undefined || description === undefined) return undefined;
  const isShort = fallback !== undefined && (typeof fallback !== 'object' || fallback === null);
  return `${key}: ${description}${isShort ? ` Default: ${JSON.stringify(fallback)}.` : ''}`;
}

function typeHint(violation: ErrorObject): string | undefined {
  const types = typeNames(violation);
  const { data } = violation;
  if (typeof data === 'string' && data.trim() !== '' && types.some((name) => name.endsWith('number'))) {
    if (Number.isFinite(Number(data))) return 'write the number without quotes';
    if (/^[-+]?\d[\d_]*(?:\.\d+)?$/.test(data)) return 'YAML 1.2 has no _ in numbers: leave it out';
    return undefined;
  }
  if (typeof data === 'string' && types.includes(TYPE_NAMES['boolean']!) && /^(?:y|n|yes|no|on|off)$/i.test(data)) {
    return `in YAML 1.2 ${data} is a text: write ${/^(?:y|yes|on)$/i.test(data) ? 'true' : 'false'}`;
  }
  if (violation.data === null) return 'give it a value, or remove the key';
  return undefined;
}

/** An output of a stage where the schema wants something else. */
export function misplacedArtifact(prefix: string, name: string, at: SourcePosition): Fr1Error {
  return new Fr1Error('ARTIFACT_MISPLACED', `${prefix}${name} takes no output of a stage`, { at });
}

function either(choices: readonly string[]): string {
  if (choices.length <= 1) return choices.join('');
  return `${choices.slice(0, -1).join(', ')} or ${choices.at(-1)}`;
}
