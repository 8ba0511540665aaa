/**
 * `${{ path }}` in string values. A path reads a variable, the seed, or names an output of a stage; there are no
 * operators and no functions, and only keys that stand in the document are read.
 */
import type { ArtifactType } from '../artifacts/types.ts';
import type { ErrorCode } from '../errors/catalogue.ts';
import { Fr1Error, type SourcePosition } from '../errors/fr1-error.ts';
import { didYouMean } from '../errors/nearest.ts';
import { type PathSegment, parsePath } from './path.ts';
import { childOf, describe, entryOf, type FailedNode, moved, type ScalarNode, type TreeNode, toValue } from './tree.ts';

/** What expressions may refer to, by stage name; `null` where the stage's kind is not known. */
export type StageOutputs = ReadonlyMap<string, Readonly<Record<string, { readonly type: ArtifactType }>> | null>;

interface Expression {
  /** Offsets of `${{ ... }}` in the string's value. */
  readonly start: number;
  readonly end: number;
  readonly path: readonly PathSegment[];
  /** Position of a span of the path's text. */
  at(start: number, end: number): SourcePosition;
}

/** Which part of the document a string stands in; variables may not refer to stages. */
type Scope = 'vars' | 'uses' | 'document';

export class ExpressionResolver {
  readonly problems: Fr1Error[] = [];
  readonly #root: TreeNode;
  readonly #memo = new Map<string, TreeNode>();
  /** Names being resolved, innermost last. */
  readonly #open: string[] = [];
  readonly #used = new Set<string>();
  #stages: StageOutputs = new Map();

  /** @param alsoUsed variables that count as used, whatever the tree says */
  constructor(root: TreeNode, alsoUsed: Iterable<string> = []) {
    this.#root = root;
    for (const name of alsoUsed) this.#used.add(name);
  }

  /** Makes the outputs of stages known; before that, only `uses`, `vars` and `seed` can be resolved. */
  withStages(stages: StageOutputs): void {
    this.#stages = stages;
  }

  /** The same tree with every expression replaced by its value. */
  resolve(node: TreeNode, scope: Scope = 'document'): TreeNode {
    switch (node.kind) {
      case 'scalar':
        return typeof node.value === 'string' && node.value.includes('${{')
          ? this.#resolveText(node, node.value, scope)
          : node;
      case 'seq':
        return { ...node, items: node.items.map((item) => this.resolve(item, scope)) };
      case 'map':
        return {
          ...node,
          entries: node.entries.map((entry) => ({ ...entry, value: this.resolve(entry.value, scope) })),
        };
      case 'ref':
      case 'failed':
        return node;
      default:
        return node satisfies never;
    }
  }

  /** The whole document; variables that nothing reads become problems when the text is complete. */
  resolveDocument(isComplete: boolean): TreeNode {
    if (this.#root.kind !== 'map') return this.#root;
    const root = {
      ...this.#root,
      entries: this.#root.entries
        .filter(({ key }) => key !== 'vars')
        .map((entry) => ({
          ...entry,
          value: entry.key === 'seed' ? this.#named('seed', entry.value) : this.resolve(entry.value),
        })),
    };
    const vars = entryOf(this.#root, 'vars');
    if (vars === undefined) return root;
    root.entries.push({ ...vars, value: this.#resolveVars(vars.value, isComplete) });
    return root;
  }

  #resolveVars(vars: TreeNode, isComplete: boolean): TreeNode {
    if (vars.kind !== 'map') return this.resolve(vars, 'vars');
    const used = new Set(this.#used);
    const entries = vars.entries.map((entry) => ({
      ...entry,
      value: this.#named(`vars.${entry.key}`, entry.value),
    }));
    // An unreadable expression may be the missing use.
    const canTell =
      isComplete &&
      !this.problems.some(({ code }) => code === 'EXPRESSION_SYNTAX' || code === 'EXPRESSION_UNKNOWN_NAME');
    for (const { key, keyAt } of canTell ? vars.entries : []) {
      if (used.has(key) || parsePath(`vars.${key}`).segments?.length !== 2) continue;
      this.problems.push(
        new Fr1Error('VARIABLE_UNUSED', `nothing uses the variable "${key}"`, {
          at: keyAt,
          hint: `use it as \${{ vars.${key} }}, or remove it`,
        }),
      );
    }
    return { ...vars, entries };
  }

  #resolveText(node: ScalarNode, text: string, scope: Scope): TreeNode {
    const expressions = this.#parse(node, text);
    if (expressions === undefined) return failed(node.at);
    const [first] = expressions;
    if (first !== undefined && expressions.length === 1 && first.start === 0 && first.end === text.length) {
      return this.#evaluate(first, node.at, scope);
    }
    let result = '';
    let copied = 0;
    let isFailed = false;
    for (const expression of expressions) {
      const value = this.#evaluate(expression, node.at, scope);
      const whole = expression.at(0, pathEnd(expression));
      if (value.kind === 'ref') {
        this.#problem('ARTIFACT_MISPLACED', `an output of a stage cannot be part of a text`, whole, {
          hint: 'an output must be the whole value of an option',
        });
      } else if (value.kind === 'map' || value.kind === 'seq' || (value.kind === 'scalar' && value.value === null)) {
        this.#problem(
          'VALUE_TYPE',
          `${describe(toValue(value))} cannot be part of a text: ${printPath(expression)}`,
          whole,
        );
      } else if (value.kind === 'scalar') {
        result += text.slice(copied, expression.start) + String(value.value);
        copied = expression.end;
        continue;
      }
      isFailed = true;
    }
    if (isFailed) return failed(node.at);
    const via = expressions.map(printPath).join(', ');
    return { kind: 'scalar', value: result + text.slice(copied), at: node.at, via };
  }

  /** All expressions of a string, or `undefined` after reporting the first that is malformed. */
  #parse(node: ScalarNode, text: string): Expression[] | undefined {
    const expressions: Expression[] = [];
    for (let start = text.indexOf('${{'), nth = 0; start !== -1; nth++) {
      const close = text.indexOf('}}', start);
      const end = close === -1 ? text.length : close + 2;
      const locateSpan = spans(node, text, start, end, nth);
      if (close === -1) {
        this.#problem('EXPRESSION_SYNTAX', 'the expression has no closing }}', locateSpan(0, end - start));
        return undefined;
      }
      const inner = text.slice(start + 3, close);
      const indent = 3 + inner.length - inner.trimStart().length;
      const path = parsePath(inner.trim());
      if (path.segments === undefined) {
        this.#problem('EXPRESSION_SYNTAX', path.message, locateSpan(indent + path.start, indent + path.end), {
          hint: 'an expression is a path: vars.name, seed, or stages.name.outputs.name',
        });
        return undefined;
      }
      expressions.push({
        start,
        end,
        path: path.segments,
        at: (from, to) => locateSpan(indent + from, indent + to),
      });
      start = text.indexOf('${{', end);
    }
    return expressions;
  }

  #evaluate(expression: Expression, at: SourcePosition, scope: Scope): TreeNode {
    const [root] = expression.path;
    if (root === undefined) return failed(at);
    switch (root.name) {
      case 'vars':
        return this.#variable(expression, at);
      case 'seed':
        if (expression.path.length > 1) {
          return this.#syntax(expression, at, 'the seed is a number and has no parts');
        }
        return moved(this.#named('seed', childOf(this.#root, 'seed') ?? defaultSeed(at), expression, at), at, 'seed');
      case 'stages':
        if (scope !== 'document') {
          const place = scope === 'vars' ? 'a variable' : '"uses"';
          this.#problem(
            'EXPRESSION_UNKNOWN_NAME',
            `${place} cannot refer to stages`,
            expression.at(root.start, root.end),
            {
              hint: 'name the output under "with", where it is used',
            },
          );
          return failed(at);
        }
        return this.#output(expression, at);
      default:
        this.#problem(
          'EXPRESSION_UNKNOWN_NAME',
          `there is no "${root.name}" in expressions`,
          expression.at(root.start, root.end),
          { hint: didYouMean(root.name, ['vars', 'stages', 'seed'], 'an expression starts with') },
        );
        return failed(at);
    }
  }

  #variable(expression: Expression, at: SourcePosition): TreeNode {
    const [, name, ...deeper] = expression.path;
    if (name === undefined) return this.#syntax(expression, at, 'which variable? a name is missing after vars');
    const vars = childOf(this.#root, 'vars');
    const entry = entryOf(vars, name.name);
    if (entry === undefined) {
      const known = vars?.kind === 'map' ? vars.entries.map(({ key }) => key) : [];
      this.#problem('VARIABLE_UNKNOWN', `there is no variable "${name.name}"`, expression.at(name.start, name.end), {
        hint: didYouMean(name.name, known, 'variables') ?? 'the pipeline has no vars',
      });
      return failed(at);
    }
    this.#used.add(name.name);
    let node = this.#named(`vars.${name.name}`, entry.value, expression, at);
    for (const segment of deeper) {
      if (node.kind === 'failed') return failed(at);
      const next =
        node.kind === 'seq' && /^\d+$/.test(segment.name)
          ? node.items[Number(segment.name)]
          : childOf(node, segment.name);
      if (next === undefined) {
        const known = node.kind === 'map' ? node.entries.map(({ key }) => key) : [];
        this.#problem(
          'VARIABLE_UNKNOWN',
          `${printPath(expression)} has no "${segment.name}"`,
          expression.at(segment.start, segment.end),
          { hint: didYouMean(segment.name, known, 'it has') },
        );
        return failed(at);
      }
      node = next;
    }
    return moved(node, at, printPath(expression));
  }

  #output(expression: Expression, at: SourcePosition): TreeNode {
    const [, stage, outputs, output, ...deeper] = expression.path;
    const form = 'write stages.name.outputs.name';
    if (stage === undefined) return this.#syntax(expression, at, 'which stage? a name is missing after stages', form);
    const known = this.#stages.get(stage.name);
    if (known === undefined) {
      this.#problem('STAGE_UNKNOWN', `there is no stage "${stage.name}"`, expression.at(stage.start, stage.end), {
        hint: didYouMean(stage.name, [...this.#stages.keys()], 'stages'),
      });
      return failed(at);
    }
    if (outputs?.name !== 'outputs' || output === undefined || deeper.length > 0) {
      return this.#syntax(expression, at, 'of a stage, only one of its outputs can be named', form);
    }
    if (known === null) return failed(at);
    const spec = Object.hasOwn(known, output.name) ? known[output.name] : undefined;
    if (spec === undefined) {
      this.#problem(
        'OUTPUT_UNKNOWN',
        `the stage "${stage.name}" has no output "${output.name}"`,
        expression.at(output.start, output.end),
        { hint: didYouMean(output.name, Object.keys(known), 'its outputs') ?? 'it has no outputs' },
      );
      return failed(at);
    }
    const ref = { kind: 'artifact-ref', stage: stage.name, output: output.name, type: spec.type } as const;
    return { kind: 'ref', ref, at };
  }

  /** Resolves a variable or the seed once; one that is already being resolved closes a circle. */
  #named(name: string, node: TreeNode, expression?: Expression, at: SourcePosition = node.at): TreeNode {
    const known = this.#memo.get(name);
    if (known !== undefined) return known;
    const start = this.#open.indexOf(name);
    if (start !== -1) {
      const circle = [...this.#open.slice(start), name].join(' -> ');
      this.#problem(
        'VARIABLE_CYCLE',
        `variables refer to each other in a circle: ${circle}`,
        expression?.at(0, pathEnd(expression)) ?? at,
      );
      return failed(at);
    }
    this.#open.push(name);
    const resolved = this.resolve(node, 'vars');
    this.#open.pop();
    this.#memo.set(name, resolved);
    return resolved;
  }

  #syntax(expression: Expression, at: SourcePosition, message: string, hint?: string): FailedNode {
    this.#problem('EXPRESSION_SYNTAX', message, expression.at(0, pathEnd(expression)), { hint });
    return failed(at);
  }

  #problem(code: ErrorCode, message: string, at: SourcePosition, options: { hint?: string | undefined } = {}): void {
    this.problems.push(new Fr1Error(code, message, { at, ...options }));
  }
}

/** Names of the variables that the tree's texts read: a use that an override replaces is still a use. */
export function variablesNamedIn(node: TreeNode): string[] {
  if (node.kind === 'seq') return node.items.flatMap(variablesNamedIn);
  if (node.kind === 'map') return node.entries.flatMap(({ value }) => variablesNamedIn(value));
  if (node.kind !== 'scalar' || typeof node.value !== 'string') return [];
  return [...node.value.matchAll(/\$\{\{\s*([^}]*?)\s*\}\}/g)].flatMap(([, text = '']) => {
    const [root, name] = parsePath(text).segments ?? [];
    return root?.name === 'vars' && name !== undefined ? [name.name] : [];
  });
}

/** Maps offsets inside the nth expression of a string to positions in the written text. */
function spans(node: ScalarNode, text: string, start: number, end: number, nth: number) {
  const { written } = node;
  const raw = written?.source.text.slice(written.start, written.end) ?? '';
  let open = -1;
  for (let i = 0; i <= nth; i++) open = raw.indexOf('${{', open + 1);
  const isVerbatim = open !== -1 && raw.startsWith(text.slice(start, end), open);
  return (from: number, to: number): SourcePosition => {
    if (written === undefined || open === -1) return node.at;
    const base = written.start + open;
    return isVerbatim ? written.source.position(base + from, base + to) : written.source.position(base, base + 3);
  };
}

function pathEnd(expression: Expression): number {
  return expression.path.at(-1)?.end ?? 1;
}

function printPath(expression: Expression): string {
  return expression.path
    .map(({ name }, i) => (i === 0 ? name : /^[A-Za-z_][\w-]*$/.test(name) ? `.${name}` : `[${name}]`))
    .join('');
}

function failed(at: SourcePosition): FailedNode {
  return { kind: 'failed', at };
}

function defaultSeed(at: SourcePosition): ScalarNode {
  return { kind: 'scalar', value: DEFAULT_SEED, at };
}

export const DEFAULT_SEED = 1;
