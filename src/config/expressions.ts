/**
 * `${{ }}` in the document: paths to variables, the seed, cells of a matrix, secrets and stages, and what operators make
 * of them. Only keys that stand in the document are read; nothing of the process or of JavaScript can be named.
 */
import type { ArtifactType } from '../artifacts/types.ts';
import type { ErrorCode } from '../errors/catalogue.ts';
import { Fr1Error, type SourcePosition } from '../errors/fr1-error.ts';
import { didYouMean } from '../errors/nearest.ts';
import type { Expr, PathExpr, PathStep } from './expression-syntax.ts';
import { bareExpression, expressionsIn, type PlacedExpression, type SyntaxFault } from './expression-text.ts';
import { compare, FUNCTIONS, isTruthy, ValueProblem } from './expression-values.ts';
import type { Matrix, MatrixCell } from './matrix.ts';
import { secretsNamedIn } from './secrets.ts';
import { childOf, describe, entryOf, type FailedNode, moved, type ScalarNode, type TreeNode, toValue } from './tree.ts';
import type { Condition, ConditionFacts } from './types.ts';

export type OutputTypes = Readonly<Record<string, { readonly type: ArtifactType }>>;

/** What expressions may ask of a stage of the file. */
export interface StageFacts {
  /** `null` where the stage's kind is not known. */
  readonly outputs: OutputTypes | null;
  readonly metrics?: readonly string[] | undefined;
  /** Absent: one stage, whose id is its name. `null`: its matrix is wrong, which is told already. */
  readonly matrix?: Matrix | null;
}

/**
 * Which part of the document a text stands in, and with it what may be named there. `options`: all, secrets too;
 * `stage`: the other keys of a stage; `condition`: endings and metrics of stages instead of outputs.
 */
export type Scope = 'vars' | 'matrix' | 'uses' | 'document' | 'stage' | 'options' | 'condition';

const NOT_THERE: Readonly<Partial<Record<Scope, string>>> = {
  vars: 'a variable',
  matrix: 'a matrix',
  uses: '"uses"',
};

export class ExpressionResolver {
  readonly problems: Fr1Error[] = [];
  readonly #root: TreeNode;
  readonly #memo = new Map<string, TreeNode>();
  /** Names being resolved, innermost last. */
  readonly #open: string[] = [];
  readonly #used = new Set<string>();
  readonly #secretsUsed = new Set<string>();
  #stages: ReadonlyMap<string, StageFacts> = new Map();
  /** Group of each cell, by id. */
  readonly #groups = new Map<string, string>();
  #cell: MatrixCell | undefined;

  /** @param alsoUsed variables that count as used, whatever the tree says */
  constructor(root: TreeNode, alsoUsed: Iterable<string> = []) {
    this.#root = root;
    for (const name of alsoUsed) this.#used.add(name);
  }

  /** Makes the stages known; before that, only variables and the seed can be resolved. */
  withStages(stages: ReadonlyMap<string, StageFacts>): void {
    this.#stages = stages;
    for (const [name, { matrix }] of stages) for (const { id } of matrix?.cells ?? []) this.#groups.set(id, name);
  }

  /** The same tree with every expression replaced by its value. */
  resolve(node: TreeNode, scope: Scope, cell?: MatrixCell): TreeNode {
    const outer = this.#cell;
    this.#cell = cell;
    const resolved = this.#resolve(node, scope);
    this.#cell = outer;
    return resolved;
  }

  seed(): TreeNode | undefined {
    const seed = entryOf(this.#root, 'seed');
    return seed === undefined ? undefined : this.#named('seed', seed.value);
  }

  /** The value of `if`: an expression, with braces or without, or true or false. */
  condition(node: TreeNode, cell?: MatrixCell): Condition | undefined {
    // The document schema tells of anything else.
    if (node.kind !== 'scalar' || (typeof node.value !== 'string' && typeof node.value !== 'boolean')) return undefined;
    const base = { text: String(node.value), position: node.at, stages: [], toleratesFailure: false };
    if (typeof node.value === 'boolean') {
      const constant = node.value;
      return { ...base, constant, evaluate: () => constant };
    }
    const expression = this.#conditionText(node, node.value);
    if ('message' in expression) {
      this.#fault(expression);
      return undefined;
    }
    const watch: Watch = { stages: new Set(), toleratesFailure: false };
    this.#cell = cell;
    const computed = this.#compute(expression.expr, { expression, at: node.at, scope: 'condition', watch });
    this.#cell = undefined;
    if (computed === undefined) return undefined;
    const place = expression.at(expression.expr);
    const checked = (value: unknown): boolean => {
      if (typeof value === 'boolean') return value;
      throw new Fr1Error('CONDITION_INVALID', `"if" must be true or false, but is ${describe(value)}`, {
        at: place,
        hint: 'compare the value, e.g. with == or >=',
      });
    };
    if ('value' in computed) {
      try {
        const constant = checked(computed.value);
        return { ...base, constant, evaluate: () => constant };
      } catch (error) {
        this.problems.push(error as Fr1Error);
        return undefined;
      }
    }
    return {
      ...base,
      stages: [...watch.stages],
      toleratesFailure: watch.toleratesFailure,
      evaluate: (facts, dependencies) => checked(computed.later(facts, dependencies)),
    };
  }

  /** Variables; those that nothing reads become problems when the text is complete. Resolved after all else. */
  resolveVars(vars: TreeNode, isComplete: boolean): TreeNode {
    if (vars.kind !== 'map') return this.resolve(vars, 'vars');
    const used = new Set(this.#used);
    const entries = vars.entries.map((entry) => ({
      ...entry,
      value: this.#named(`vars.${entry.key}`, entry.value),
    }));
    for (const { key, keyAt } of this.#canTellUnused(isComplete) ? vars.entries : []) {
      if (used.has(key) || !/^[A-Za-z_][\w-]*$/.test(key)) continue;
      this.#problem('VARIABLE_UNUSED', `nothing uses the variable "${key}"`, keyAt, {
        hint: `use it as \${{ vars.${key} }}, or remove it`,
      });
    }
    return { ...vars, entries };
  }

  /** Tells of declared secrets that nothing reads. */
  checkSecretsUsed(declared: readonly { readonly name: string; readonly position: SourcePosition }[]): void {
    for (const { name, position } of this.#canTellUnused(true) ? declared : []) {
      if (this.#secretsUsed.has(name)) continue;
      this.#problem('ENV_UNUSED', `nothing uses the environment variable "${name}"`, position, {
        hint: `use it in the options of a stage as \${{ env.${name} }}, or remove it`,
      });
    }
  }

  /** An unreadable expression may be the missing use. */
  #canTellUnused(isComplete: boolean): boolean {
    return (
      isComplete &&
      !this.problems.some(({ code }) => code === 'EXPRESSION_SYNTAX' || code === 'EXPRESSION_UNKNOWN_NAME')
    );
  }

  #resolve(node: TreeNode, scope: Scope): TreeNode {
    switch (node.kind) {
      case 'scalar':
        return typeof node.value === 'string' && node.value.includes('${{')
          ? this.#resolveText(node, node.value, scope)
          : node;
      case 'seq':
        return { ...node, items: node.items.map((item) => this.#resolve(item, scope)) };
      case 'map':
        return {
          ...node,
          entries: node.entries.map((entry) => ({ ...entry, value: this.#resolve(entry.value, scope) })),
        };
      case 'ref':
      case 'failed':
        return node;
      default:
        return node satisfies never;
    }
  }

  #resolveText(node: ScalarNode, text: string, scope: Scope): TreeNode {
    const expressions = expressionsIn(node, text);
    if ('message' in expressions) return this.#fault(expressions);
    const [first] = expressions;
    if (first !== undefined && expressions.length === 1 && first.start === 0 && first.end === text.length) {
      return this.#evaluate(first, node.at, scope);
    }
    let result = '';
    let copied = 0;
    let isFailed = false;
    for (const expression of expressions) {
      const value = this.#evaluate(expression, node.at, scope);
      const whole = expression.at(expression.expr);
      if (value.kind === 'ref' || (value.kind === 'seq' && value.items.some(({ kind }) => kind === 'ref'))) {
        this.#problem('ARTIFACT_MISPLACED', `an output of a stage cannot be part of a text`, whole, {
          hint: 'an output must be the whole value of an option',
        });
      } else if (value.kind === 'map' || value.kind === 'seq' || (value.kind === 'scalar' && value.value === null)) {
        this.#problem('VALUE_TYPE', `${describe(toValue(value))} cannot be part of a text: ${expression.text}`, whole);
      } else if (value.kind === 'scalar') {
        result += text.slice(copied, expression.start) + String(value.value);
        copied = expression.end;
        continue;
      }
      isFailed = true;
    }
    if (isFailed) return failed(node.at);
    const value = result + text.slice(copied);
    const folder = node.folder;
    return { kind: 'scalar', value, at: node.at, folder };
  }

  /** The value of a whole expression at its place. */
  #evaluate(expression: PlacedExpression, at: SourcePosition, scope: Scope): TreeNode {
    const { expr } = expression;
    const surroundings: Surroundings = { expression, at, scope };
    if (expr.kind === 'path') {
      const node = this.#path(expr, surroundings);
      return node.kind === 'failed' ? node : this.#withoutStraySecrets(node, surroundings);
    }
    const computed = this.#compute(expr, surroundings);
    if (computed === undefined || !('value' in computed)) return failed(at);
    const { value } = computed;
    const isSingle = value === null || ['string', 'number', 'boolean'].includes(typeof value);
    if (!isSingle) return this.#expressionProblem('EXPRESSION_TYPE', `the result is ${describe(value)}`, surroundings);
    return { kind: 'scalar', value: value as ScalarNode['value'], at, via: expression.text };
  }

  /** A secret may stand in options and in variables, which options read; elsewhere it would be printed or stored. */
  #withoutStraySecrets(node: TreeNode, { expression, at, scope }: Surroundings): TreeNode {
    if (scope === 'options' || scope === 'vars' || !containsSecret(node)) return node;
    this.#problem(
      'ENV_MISPLACED',
      'a secret can stand in the options of a stage only',
      expression.at(expression.expr),
      {
        hint: 'name it under "with"; values that are no secrets belong under "vars"',
      },
    );
    return failed(at);
  }

  #path(path: PathExpr, surroundings: Surroundings): TreeNode {
    const { expression, at, scope } = surroundings;
    const rootAt = expression.at({ start: path.start, end: path.rootEnd });
    switch (path.root) {
      case 'vars':
        return this.#variable(path, surroundings);
      case 'seed':
        if (path.steps.length > 0) return this.#syntax(surroundings, 'the seed is a number and has no parts');
        return moved(
          this.#named('seed', childOf(this.#root, 'seed') ?? defaultSeed(at), expression.at(path)),
          at,
          'seed',
        );
      case 'matrix':
        return this.#matrixValue(path, surroundings);
      case 'env':
        return this.#secret(path, surroundings);
      case 'stages': {
        const place = NOT_THERE[scope];
        if (place !== undefined) {
          this.#problem('EXPRESSION_UNKNOWN_NAME', `${place} cannot refer to stages`, rootAt, {
            hint: 'name the output under "with", where it is used',
          });
          return failed(at);
        }
        return this.#output(path, surroundings);
      }
      default:
        this.#problem('EXPRESSION_UNKNOWN_NAME', `there is no "${path.root}" in expressions`, rootAt, {
          hint: didYouMean(path.root, ['vars', 'stages', 'matrix', 'seed', 'env'], 'an expression starts with'),
        });
        return failed(at);
    }
  }

  #variable(path: PathExpr, surroundings: Surroundings): TreeNode {
    const { expression, at } = surroundings;
    const [first, ...deeper] = path.steps;
    if (first === undefined) return this.#syntax(surroundings, 'which variable? a name is missing after vars');
    const name = this.#stepName(first, surroundings);
    if (name === undefined) return failed(at);
    const vars = childOf(this.#root, 'vars');
    const entry = entryOf(vars, name);
    if (entry === undefined) {
      const known = vars?.kind === 'map' ? vars.entries.map(({ key }) => key) : [];
      this.#problem('VARIABLE_UNKNOWN', `there is no variable "${name}"`, expression.at(first), {
        hint: didYouMean(name, known, 'variables') ?? 'the pipeline has no vars',
      });
      return failed(at);
    }
    this.#used.add(name);
    return this.#part(this.#named(`vars.${name}`, entry.value, expression.at(path)), deeper, path, surroundings);
  }

  #matrixValue(path: PathExpr, surroundings: Surroundings): TreeNode {
    const { expression, at, scope } = surroundings;
    const [first, ...deeper] = path.steps;
    if (this.#cell === undefined) {
      const place = NOT_THERE[scope] ?? 'a stage without a matrix';
      this.#problem(
        'EXPRESSION_UNKNOWN_NAME',
        `${place} cannot refer to the matrix`,
        expression.at({ start: path.start, end: path.rootEnd }),
        { hint: 'matrix.name is there in "with", "if", "needs", "expect" ... of a stage that has a matrix' },
      );
      return failed(at);
    }
    if (first === undefined) return this.#syntax(surroundings, 'which axis? a name is missing after matrix');
    const name = this.#stepName(first, surroundings);
    if (name === undefined) return failed(at);
    const value = this.#cell.values.get(name);
    if (value === undefined) {
      this.#problem('VARIABLE_UNKNOWN', `the matrix has no "${name}"`, expression.at(first), {
        hint: didYouMean(name, [...this.#cell.values.keys()], 'it has'),
      });
      return failed(at);
    }
    return this.#part(value, deeper, path, surroundings);
  }

  /** What the steps lead to inside of a value, at the place of the expression. */
  #part(value: TreeNode, steps: readonly PathStep[], path: PathExpr, surroundings: Surroundings): TreeNode {
    const { expression, at } = surroundings;
    let node = value;
    for (const step of steps) {
      if (node.kind === 'failed') return failed(at);
      const name = this.#stepName(step, surroundings);
      if (name === undefined) return failed(at);
      const next = node.kind === 'seq' && /^\d+$/.test(name) ? node.items[Number(name)] : childOf(node, name);
      if (next === undefined) {
        const known = node.kind === 'map' ? node.entries.map(({ key }) => key) : [];
        const before = path.steps[path.steps.indexOf(step) - 1];
        const whole = expression.text.slice(path.start, before?.end ?? path.rootEnd);
        this.#problem('VARIABLE_UNKNOWN', `${whole} has no "${name}"`, expression.at(step), {
          hint: didYouMean(name, known, 'it has'),
        });
        return failed(at);
      }
      node = next;
    }
    return moved(node, at, expression.text.slice(path.start, path.end));
  }

  #secret(path: PathExpr, surroundings: Surroundings): TreeNode {
    const { expression, at } = surroundings;
    const [first, ...deeper] = path.steps;
    if (first === undefined || deeper.length > 0 || !('name' in first)) {
      return this.#syntax(surroundings, 'of the environment, one variable can be named', 'write env.NAME');
    }
    if (!this.#declaredSecrets().includes(first.name)) {
      this.#problem(
        'ENV_UNDECLARED',
        `the environment variable "${first.name}" is not declared`,
        expression.at(first),
        {
          hint:
            didYouMean(first.name, this.#declaredSecrets(), 'declared') ??
            `declare it at the top: env: [${first.name}]`,
        },
      );
      return failed(at);
    }
    this.#secretsUsed.add(first.name);
    return { kind: 'scalar', value: `\${{ env.${first.name} }}`, at };
  }

  #declaredSecrets(): string[] {
    const env = childOf(this.#root, 'env');
    if (env?.kind === 'map') return env.entries.map(({ key }) => key);
    if (env?.kind !== 'seq') return [];
    return env.items.flatMap((item) => (item.kind === 'scalar' ? [String(item.value)] : []));
  }

  /** An output of a stage, or of several cells: a list. */
  #output(path: PathExpr, surroundings: Surroundings): TreeNode {
    const { expression, at, scope } = surroundings;
    const found = this.#stageOf(path, surroundings);
    if (found === undefined) return failed(at);
    const { name, facts, ids, rest } = found;
    const [keyword, output, ...deeper] = rest;
    const form = 'write stages.name.outputs.name';
    if (keyword !== undefined && 'name' in keyword && (keyword.name === 'metrics' || keyword.name === 'status')) {
      const hint = 'compare it in "if" of a stage, or give it bounds in "expect"';
      const message = `the ${keyword.name} of a stage ${keyword.name === 'status' ? 'is' : 'are'} not known before it has run`;
      return this.#syntax(surroundings, message, hint);
    }
    if (
      keyword === undefined ||
      !('name' in keyword) ||
      keyword.name !== 'outputs' ||
      output === undefined ||
      deeper.length > 0
    ) {
      return this.#syntax(surroundings, 'of a stage, only one of its outputs can be named', form);
    }
    const outputName = this.#stepName(output, surroundings);
    if (outputName === undefined || facts.outputs === null || ids === null) return failed(at);
    const spec = Object.hasOwn(facts.outputs, outputName) ? facts.outputs[outputName] : undefined;
    if (spec === undefined) {
      this.#problem('OUTPUT_UNKNOWN', `the stage "${name}" has no output "${outputName}"`, expression.at(output), {
        hint: didYouMean(outputName, Object.keys(facts.outputs), 'its outputs') ?? 'it has no outputs',
      });
      return failed(at);
    }
    if (scope === 'condition') return this.#syntax(surroundings, 'a condition compares metrics, not outputs');
    const refTo = (stage: string): TreeNode => ({
      kind: 'ref',
      ref: { kind: 'artifact-ref', stage, output: outputName, type: spec.type },
      at,
    });
    return ids.isList ? { kind: 'seq', items: ids.list.map(refTo), at } : refTo(ids.list[0]!);
  }

  /** The stage or the cells that a path starts with, and the steps that are left. */
  #stageOf(
    path: PathExpr,
    surroundings: Surroundings,
  ):
    | {
        name: string;
        facts: StageFacts;
        ids: { list: readonly string[]; isList: boolean } | null;
        rest: readonly PathStep[];
      }
    | undefined {
    const { expression } = surroundings;
    const [first, ...rest] = path.steps;
    if (first === undefined) {
      this.#syntax(surroundings, 'which stage? a name is missing after stages', 'write stages.name.outputs.name');
      return undefined;
    }
    const name = this.#stepName(first, surroundings);
    if (name === undefined) return undefined;
    const group = this.#stages.has(name) ? name : this.#groups.get(name);
    const facts = group === undefined ? undefined : this.#stages.get(group);
    if (group === undefined || facts === undefined) {
      this.#problem('STAGE_UNKNOWN', `there is no stage "${name}"`, expression.at(first), {
        hint: this.#stageHint(name),
      });
      return undefined;
    }
    if (group !== name) return { name, facts, ids: { list: [name], isList: false }, rest };
    if (facts.matrix === undefined) return { name, facts, ids: { list: [name], isList: false }, rest };
    const keys: string[] = [];
    let taken = 0;
    for (const step of rest) {
      if ('name' in step && ['outputs', 'metrics', 'status'].includes(step.name)) break;
      if (facts.matrix === null || keys.length === facts.matrix.axes.length) break;
      const key = this.#stepName(step, surroundings);
      if (key === undefined) return undefined;
      const known = facts.matrix.keysAfter(keys);
      keys.push(key);
      taken++;
      if (facts.matrix.select(keys).length === 0) {
        const axis = facts.matrix.axes[keys.length - 1];
        this.#problem('STAGE_UNKNOWN', `the stage "${name}" has no cell with ${axis} "${key}"`, expression.at(step), {
          hint: didYouMean(key, known, `its values of ${axis}`),
        });
        return undefined;
      }
    }
    if (facts.matrix === null) return { name, facts, ids: null, rest: rest.slice(-2) };
    const list = facts.matrix.select(keys).map(({ id }) => id);
    return { name, facts, ids: { list, isList: keys.length < facts.matrix.axes.length }, rest: rest.slice(taken) };
  }

  #stageHint(name: string): string | undefined {
    const names = [...this.#stages.keys()];
    const dot = name.indexOf('.');
    const group = dot === -1 ? undefined : this.#stages.get(name.slice(0, dot));
    return didYouMean(name, group?.matrix ? group.matrix.cells.map(({ id }) => id) : names, 'stages');
  }

  /** The text of a step; an index may be an expression itself. */
  #stepName(step: PathStep, surroundings: Surroundings): string | undefined {
    if ('name' in step) return step.name;
    const computed = this.#compute(step.index, surroundings);
    if (computed === undefined) return undefined;
    if ('value' in computed && (typeof computed.value === 'string' || typeof computed.value === 'number')) {
      return String(computed.value);
    }
    const is = 'value' in computed ? describe(computed.value) : 'known only while the pipeline runs';
    this.#problem(
      'EXPRESSION_TYPE',
      `what stands in brackets must be a text or number, but is ${is}`,
      surroundings.expression.at(step),
    );
    return undefined;
  }

  /** The value of an expression, or how to find it once stages have ended; `undefined` after a problem. */
  #compute(expr: Expr, surroundings: Surroundings): Computed | undefined {
    switch (expr.kind) {
      case 'literal':
        return { value: expr.value };
      case 'path':
        return this.#computePath(expr, surroundings);
      case 'not': {
        const operand = this.#compute(expr.operand, surroundings);
        return operand && apply([operand], ([value]) => !isTruthy(value));
      }
      case 'binary': {
        const left = this.#compute(expr.left, surroundings);
        const right = this.#compute(expr.right, surroundings);
        if (left === undefined || right === undefined) return undefined;
        const { operator } = expr;
        if (operator === '&&' || operator === '||') return shortCircuit(operator === '&&', left, right);
        return this.#guarded(expr, surroundings, [left, right], ([a, b]) => compare(operator, a, b));
      }
      case 'call':
        return this.#call(expr, surroundings);
      default:
        return expr satisfies never;
    }
  }

  #computePath(path: PathExpr, surroundings: Surroundings): Computed | undefined {
    const { expression, watch } = surroundings;
    if (path.root === 'stages' && watch !== undefined) return this.#stageFact(path, surroundings, watch);
    const node = this.#path(path, surroundings);
    if (node.kind === 'failed') return undefined;
    if (containsSecret(node)) {
      this.#problem('ENV_MISPLACED', 'a secret cannot be compared or changed by an expression', expression.at(path), {
        hint: 'name it alone, as the value of an option or in its text',
      });
      return undefined;
    }
    const value = toValue(node);
    if (node.kind === 'ref' || (node.kind === 'seq' && node.items.some(({ kind }) => kind === 'ref'))) {
      this.#problem('ARTIFACT_MISPLACED', 'an output of a stage cannot be compared', expression.at(path), {
        hint: 'an output must be the whole value of an option',
      });
      return undefined;
    }
    return { value };
  }

  /** `stages.x.status` and `stages.x.metrics.y`, known when the stage has ended. */
  #stageFact(path: PathExpr, surroundings: Surroundings, watch: Watch): Computed | undefined {
    const { expression } = surroundings;
    const found = this.#stageOf(path, surroundings);
    if (found === undefined || found.ids === null) return undefined;
    const [keyword, metric, ...deeper] = found.rest;
    const word = keyword !== undefined && 'name' in keyword ? keyword.name : undefined;
    const isStatus = word === 'status' && metric === undefined;
    const isMetric = word === 'metrics' && metric !== undefined && deeper.length === 0;
    if (!isStatus && !isMetric) {
      this.#syntax(
        surroundings,
        'of a stage, a condition can ask for the status or a metric',
        'write stages.name.status or stages.name.metrics.name',
      );
      return undefined;
    }
    if (found.ids.isList) {
      this.#problem('EXPRESSION_TYPE', `the stage "${found.name}" has several cells: name one`, expression.at(path), {
        hint: `e.g. stages['${found.ids.list[0]}'].${word}`,
      });
      return undefined;
    }
    const id = found.ids.list[0]!;
    watch.stages.add(id);
    if (metric === undefined) {
      watch.toleratesFailure = true;
      return { later: (facts) => facts.ending(id) };
    }
    const name = this.#stepName(metric, surroundings);
    if (name === undefined) return undefined;
    const known = found.facts.metrics;
    if (known !== undefined && !known.includes(name)) {
      this.#problem('METRIC_UNKNOWN', `stage "${found.name}" returns no metric "${name}"`, expression.at(metric), {
        hint: didYouMean(name, known, 'its metrics'),
      });
      return undefined;
    }
    const place = expression.at(path);
    return {
      later: (facts) => {
        const value = facts.metric(id, name);
        if (value !== undefined) return value;
        throw new Fr1Error('CONDITION_INVALID', `the stage "${id}" has no metric "${name}" to compare`, { at: place });
      },
    };
  }

  #call(expr: Expr & { kind: 'call' }, surroundings: Surroundings): Computed | undefined {
    const { expression, watch } = surroundings;
    const nameAt = expression.at({ start: expr.start, end: expr.nameEnd });
    const status = Object.hasOwn(STATUS_FUNCTIONS, expr.name) ? STATUS_FUNCTIONS[expr.name] : undefined;
    if (status !== undefined && watch !== undefined) {
      if (expr.args.length > 0) {
        this.#problem('EXPRESSION_SYNTAX', `${expr.name}() takes nothing in its parentheses`, nameAt);
        return undefined;
      }
      watch.toleratesFailure = true;
      return { later: status };
    }
    const spec = Object.hasOwn(FUNCTIONS, expr.name) ? FUNCTIONS[expr.name] : undefined;
    if (spec === undefined) {
      const known = [...Object.keys(FUNCTIONS), ...(watch === undefined ? [] : Object.keys(STATUS_FUNCTIONS))];
      const hint =
        status === undefined ? didYouMean(expr.name, known, 'functions') : `${expr.name}() is there in "if" of a stage`;
      this.#problem('EXPRESSION_UNKNOWN_NAME', `there is no function "${expr.name}" here`, nameAt, { hint });
      return undefined;
    }
    if (expr.args.length < spec.minArgs || expr.args.length > spec.maxArgs) {
      this.#problem(
        'EXPRESSION_SYNTAX',
        `${expr.name} is given ${expr.args.length === 1 ? '1 value' : `${expr.args.length} values`}`,
        nameAt,
        {
          hint: `write ${spec.form}`,
        },
      );
      return undefined;
    }
    const args = expr.args.map((arg) => this.#compute(arg, surroundings));
    if (args.includes(undefined)) return undefined;
    return this.#guarded(expr, surroundings, args as Computed[], spec.call);
  }

  /** Applies now or later; what the operands do not allow becomes a problem at the expression. */
  #guarded(
    expr: Expr,
    { expression }: Surroundings,
    operands: readonly Computed[],
    operate: (values: readonly unknown[]) => unknown,
  ): Computed | undefined {
    const at = expression.at(expr);
    const guarded = (values: readonly unknown[]): unknown => {
      try {
        return operate(values);
      } catch (problem) {
        if (problem instanceof ValueProblem) throw new Fr1Error('EXPRESSION_TYPE', problem.message, { at });
        throw problem;
      }
    };
    try {
      return apply(operands, guarded);
    } catch (problem) {
      if (!(problem instanceof Fr1Error)) throw problem;
      this.problems.push(problem);
      return undefined;
    }
  }

  #conditionText(node: ScalarNode, text: string): PlacedExpression | SyntaxFault {
    if (!text.includes('${{')) return bareExpression(node, text);
    const expressions = expressionsIn(node, text);
    if ('message' in expressions) return expressions;
    const [first] = expressions;
    if (expressions.length === 1 && text.slice(0, first!.start).trim() + text.slice(first!.end).trim() === '') {
      return first!;
    }
    return { message: '"if" is one expression, with all of it inside of ${{ }} or without braces', at: node.at };
  }

  /** Resolves a variable or the seed once; one that is already being resolved closes a circle. */
  #named(name: string, node: TreeNode, at: SourcePosition = node.at): TreeNode {
    const known = this.#memo.get(name);
    if (known !== undefined) return known;
    const start = this.#open.indexOf(name);
    if (start !== -1) {
      const circle = [...this.#open.slice(start), name].join(' -> ');
      this.#problem('VARIABLE_CYCLE', `variables refer to each other in a circle: ${circle}`, at);
      return failed(at);
    }
    this.#open.push(name);
    const resolved = this.resolve(node, 'vars');
    this.#open.pop();
    this.#memo.set(name, resolved);
    return resolved;
  }

  #fault({ message, at, hint }: SyntaxFault): FailedNode {
    this.#problem('EXPRESSION_SYNTAX', message, at, { hint });
    return failed(at);
  }

  #syntax(surroundings: Surroundings, message: string, hint?: string): FailedNode {
    return this.#expressionProblem('EXPRESSION_SYNTAX', message, surroundings, hint);
  }

  #expressionProblem(code: ErrorCode, message: string, { expression, at }: Surroundings, hint?: string): FailedNode {
    this.#problem(code, message, expression.at(expression.expr), { hint });
    return failed(at);
  }

  #problem(code: ErrorCode, message: string, at: SourcePosition, options: { hint?: string | undefined } = {}): void {
    this.problems.push(new Fr1Error(code, message, { at, ...options }));
  }
}

/** Where an expression stands while it is evaluated. */
interface Surroundings {
  readonly expression: PlacedExpression;
  /** Place of the whole value. */
  readonly at: SourcePosition;
  readonly scope: Scope;
  /** Present in conditions. */
  readonly watch?: Watch;
}

/** What a condition asks while the pipeline runs. */
interface Watch {
  readonly stages: Set<string>;
  toleratesFailure: boolean;
}

type Later = (facts: ConditionFacts, dependencies: readonly string[]) => unknown;
type Computed = { readonly value: unknown } | { readonly later: Later };

const STATUS_FUNCTIONS: Readonly<Record<string, Later>> = {
  success: (facts, dependencies) => dependencies.every((stage) => facts.ending(stage) === 'succeeded'),
  failure: (facts, dependencies) => dependencies.some((stage) => facts.ending(stage) === 'failed'),
  always: () => true,
};

function apply(operands: readonly Computed[], operate: (values: readonly unknown[]) => unknown): Computed {
  if (operands.every((operand) => 'value' in operand)) return { value: operate(operands.map(({ value }) => value)) };
  return {
    later: (facts, dependencies) =>
      operate(operands.map((operand) => ('value' in operand ? operand.value : operand.later(facts, dependencies)))),
  };
}

function shortCircuit(isAnd: boolean, left: Computed, right: Computed): Computed {
  if ('value' in left) return isTruthy(left.value) === isAnd ? right : left;
  return {
    later: (facts, dependencies) => {
      const value = left.later(facts, dependencies);
      if (isTruthy(value) !== isAnd) return value;
      return 'value' in right ? right.value : right.later(facts, dependencies);
    },
  };
}

/** Names of the variables that the tree's texts read: a use that an override replaces is still a use. */
export function variablesNamedIn(node: TreeNode): string[] {
  if (node.kind === 'seq') return node.items.flatMap(variablesNamedIn);
  if (node.kind === 'map') return node.entries.flatMap(({ value }) => variablesNamedIn(value));
  if (node.kind !== 'scalar' || typeof node.value !== 'string') return [];
  return [...node.value.matchAll(/\bvars(?:\.([\w-]+)|\[\s*['"]([^'"]*)['"]\s*\])/g)].map(
    ([, name, quoted]) => name ?? quoted!,
  );
}

function containsSecret(node: TreeNode): boolean {
  if (node.kind === 'seq') return node.items.some(containsSecret);
  if (node.kind === 'map') return node.entries.some(({ value }) => containsSecret(value));
  return node.kind === 'scalar' && typeof node.value === 'string' && secretsNamedIn(node.value).length > 0;
}

function failed(at: SourcePosition): FailedNode {
  return { kind: 'failed', at };
}

function defaultSeed(at: SourcePosition): ScalarNode {
  return { kind: 'scalar', value: DEFAULT_SEED, at };
}

export const DEFAULT_SEED = 1;
