/**
 * `matrix` of a stage -> its cells: every combination of the axes' values, less `exclude`, plus `include`.
 *
 * An entry of `include` that matches cells by all axes it names adds its further values to them; one that matches none is
 * a cell of its own and names every axis. A cell's id is the stage's name and its values: `eval.seen.open`.
 */
import { Fr1Error, type SourcePosition } from '../errors/fr1-error.ts';
import { didYouMean } from '../errors/nearest.ts';
import { childOf, entryOf, type MapEntry, type MapNode, type TreeNode, toValue } from './tree.ts';

/** More cells than any plan can use; a typing error in an axis should not fill the memory. */
export const MAX_CELLS = 20_000;

export interface MatrixCell {
  readonly id: string;
  /** Text form of the value on each axis, as in the id. */
  readonly keys: readonly string[];
  /** Values by axis, and those that `include` added. */
  readonly values: ReadonlyMap<string, TreeNode>;
}

export class Matrix {
  readonly axes: readonly string[];
  readonly cells: readonly MatrixCell[];
  readonly #byPrefix = new Map<string, MatrixCell[]>();

  constructor(axes: readonly string[], cells: readonly MatrixCell[]) {
    this.axes = axes;
    this.cells = cells;
    for (const cell of cells) {
      for (let length = 0; length <= cell.keys.length; length++) {
        const prefix = cell.keys.slice(0, length).join('\0');
        const key = `${length}\0${prefix}`;
        const list = this.#byPrefix.get(key);
        if (list === undefined) this.#byPrefix.set(key, [cell]);
        else list.push(cell);
      }
    }
  }

  /** Cells whose first keys are these; none where no cell has them. */
  select(keys: readonly string[]): readonly MatrixCell[] {
    return this.#byPrefix.get(`${keys.length}\0${keys.join('\0')}`) ?? [];
  }

  /** The keys that cells with this beginning have on the next axis. */
  keysAfter(keys: readonly string[]): string[] {
    return [...new Set(this.select(keys).map((cell) => cell.keys[keys.length]!))];
  }
}

interface Draft {
  readonly axisValues: ReadonlyMap<string, TreeNode>;
  readonly values: Map<string, TreeNode>;
}

/** @param node the resolved value of `matrix`; `undefined` is returned after problems */
export function expandMatrix(stage: MapEntry, node: TreeNode, problems: Fr1Error[]): Matrix | undefined {
  const before = problems.length;
  const fail = (message: string, at: SourcePosition, hint?: string) => {
    problems.push(new Fr1Error('MATRIX_INVALID', `stage "${stage.key}": ${message}`, { at, hint }));
  };
  if (node.kind === 'failed') return undefined;
  if (node.kind !== 'map') {
    fail('a matrix is a mapping of axes to lists of values', node.at, 'e.g. matrix: { split: [seen, unseen] }');
    return undefined;
  }
  const axes = readAxes(node, fail);
  if (problems.length > before) return undefined;
  const include = readList(node, 'include', fail);
  const exclude = readList(node, 'exclude', fail);

  let drafts: Draft[] = axes.length === 0 ? [] : [{ axisValues: new Map(), values: new Map() }];
  if (axes.reduce((product, { items }) => product * items.length, 1) > MAX_CELLS) {
    fail(`the axes make more than ${MAX_CELLS} cells`, node.at);
    return undefined;
  }
  for (const { name, items } of axes) {
    drafts = drafts.flatMap(({ axisValues }) =>
      items.map((item) => {
        const values = new Map(axisValues).set(name, item);
        return { axisValues: values, values: new Map(values) };
      }),
    );
  }
  const names = axes.map(({ name }) => name);
  drafts = applyExclude(drafts, exclude, names, fail);
  const axisNames = names.length > 0 ? names : (include[0]?.entries ?? []).map(({ key }) => key);
  applyInclude(drafts, include, axisNames, fail);
  if (problems.length > before) return undefined;
  if (drafts.length === 0) {
    fail(
      'the matrix has no cells',
      entryOf(stage.value, 'matrix')?.keyAt ?? node.at,
      'give an axis values, or remove it',
    );
    return undefined;
  }
  if (drafts.length > MAX_CELLS) {
    fail(`the matrix makes more than ${MAX_CELLS} cells`, node.at);
    return undefined;
  }
  return new Matrix(axisNames, nameCells(stage.key, axisNames, drafts, fail));
}

/** The text form of an axis value in an id: letters, digits, `_`, `-`, and dots inside. */
export function keyOf(value: unknown): string {
  const named = value !== null && typeof value === 'object' ? (value as { name?: unknown }).name : value;
  const text = named !== null && typeof named === 'object' ? '' : String(named ?? '');
  const plain = text.replace(/[^\w.-]+/g, '_').replace(/^\.+|\.+$/g, '_');
  return plain.slice(0, 40) || '_';
}

type Fail = (message: string, at: SourcePosition, hint?: string) => void;

function readAxes(node: MapNode, fail: Fail): { name: string; items: readonly TreeNode[] }[] {
  const axes = [];
  for (const { key, keyAt, value } of node.entries) {
    if (key === 'include' || key === 'exclude') continue;
    if (!/^[A-Za-z_][\w-]*$/.test(key)) fail(`"${key}" is not a valid name of an axis`, keyAt);
    if (value.kind === 'failed') continue;
    if (value.kind !== 'seq') {
      fail(`the axis "${key}" must be a list of values`, value.at, `write ${key}: [first, second]`);
    } else if (value.items.length === 0) fail(`the axis "${key}" has no values`, value.at);
    else {
      const seen = new Set<string>();
      for (const item of value.items) {
        const text = JSON.stringify(toValue(item));
        if (seen.has(text)) fail(`the axis "${key}" has the value ${text} twice`, item.at);
        if (item.kind === 'ref') fail(`an output of a stage cannot be a value of the axis "${key}"`, item.at);
        seen.add(text);
      }
      axes.push({ name: key, items: value.items });
    }
  }
  return axes;
}

function readList(node: MapNode, key: 'include' | 'exclude', fail: Fail): readonly MapNode[] {
  const list = childOf(node, key);
  if (list === undefined || list.kind === 'failed') return [];
  if (list.kind !== 'seq') {
    fail(`"${key}" of a matrix must be a list of mappings`, list.at, `write ${key}: [{ axis: value }]`);
    return [];
  }
  return list.items.flatMap((item) => {
    if (item.kind === 'map' && item.entries.length > 0) return [item];
    if (item.kind !== 'failed') fail(`each item of "${key}" is a mapping of axes to values`, item.at);
    return [];
  });
}

function applyExclude(drafts: Draft[], exclude: readonly MapNode[], axes: readonly string[], fail: Fail): Draft[] {
  return exclude.reduce((left, item) => {
    for (const { key, keyAt } of item.entries) {
      if (!axes.includes(key)) fail(`the matrix has no axis "${key}" to exclude`, keyAt, didYouMean(key, axes, 'axes'));
    }
    const kept = left.filter(({ axisValues }) => !item.entries.every((entry) => matches(axisValues, entry)));
    if (kept.length === left.length && item.entries.every(({ key }) => axes.includes(key))) {
      fail('this excludes no cell of the matrix', item.at, 'look for a value that no axis has, or remove it');
    }
    return kept;
  }, drafts);
}

function applyInclude(drafts: Draft[], include: readonly MapNode[], axes: readonly string[], fail: Fail): void {
  const made = [...drafts];
  for (const item of include) {
    const onAxes = item.entries.filter(({ key }) => axes.includes(key));
    const fitting = made.filter(({ axisValues }) => onAxes.every((entry) => matches(axisValues, entry)));
    const further = item.entries.filter(({ key }) => !axes.includes(key));
    if (fitting.length > 0 && further.length > 0) {
      for (const draft of fitting) for (const { key, value } of further) draft.values.set(key, value);
      continue;
    }
    const missing = axes.filter((axis) => !onAxes.some(({ key }) => key === axis));
    if (missing.length > 0) {
      fail(`a further cell of the matrix needs a value for ${missing.join(' and ')}`, item.at);
      continue;
    }
    const axisValues = new Map(onAxes.map(({ key, value }) => [key, value]));
    if (drafts.some((draft) => onAxes.every((entry) => matches(draft.axisValues, entry)))) {
      fail('the matrix has this cell already', item.at, 'remove it, or add a value that is no axis');
      continue;
    }
    drafts.push({ axisValues, values: new Map(item.entries.map(({ key, value }) => [key, value])) });
  }
}

function matches(values: ReadonlyMap<string, TreeNode>, { key, value }: MapEntry): boolean {
  const own = values.get(key);
  return own !== undefined && JSON.stringify(toValue(own)) === JSON.stringify(toValue(value));
}

/** Distinct values that look alike in an id get a number. */
function nameCells(stage: string, axes: readonly string[], drafts: readonly Draft[], fail: Fail): MatrixCell[] {
  const keys = axes.map((axis) => {
    const byValue = new Map<string, string>();
    const taken = new Set<string>();
    for (const { axisValues } of drafts) {
      const value = toValue(axisValues.get(axis)!);
      const text = JSON.stringify(value);
      if (byValue.has(text)) continue;
      const base = keyOf(value);
      let key = base;
      for (let n = 2; taken.has(key); n++) key = `${base}-${n}`;
      taken.add(key);
      byValue.set(text, key);
    }
    return byValue;
  });
  const ids = new Set<string>();
  return drafts.map(({ axisValues, values }) => {
    const cellKeys = axes.map((axis, i) => keys[i]!.get(JSON.stringify(toValue(axisValues.get(axis)!)))!);
    const id = [stage, ...cellKeys].join('.');
    if (ids.has(id)) {
      const { at } = [...axisValues.values()].at(-1)!;
      fail(`two cells have the same id ${id}`, at, 'leave dots out of the values');
    }
    ids.add(id);
    return { id, keys: cellKeys, values };
  });
}
