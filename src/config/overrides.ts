/** `--set path=value`: puts a value into the document before anything else looks at it. */
import { isAlias, isCollection, isScalar, type ParsedNode, parseDocument } from 'yaml';
import { COMMAND_LINE } from '../errors/format.ts';
import { Fr1Error } from '../errors/fr1-error.ts';
import { didYouMean } from '../errors/nearest.ts';
import { parseYaml } from './parse-yaml.ts';
import { type PathSegment, parsePath } from './path.ts';
import { Source } from './source.ts';
import { entryOf, type MapNode, type ScalarNode, type TreeNode } from './tree.ts';

const DOCUMENT_KEYS = ['name', 'seed', 'vars', 'env', 'stages', 'outputs'];
const FLAG = '--set ';

/**
 * Applies overrides in order, changing `root` in place. Variables and stages must exist; options, needs and
 * expectations may be new, since the schema checks them afterwards.
 *
 * @returns problems, each placed on the command line
 */
export function applyOverrides(root: TreeNode, sets: readonly string[]): Fr1Error[] {
  return sets.flatMap((set) => {
    const problem = applyOne(root, set);
    return problem === undefined ? [] : [problem];
  });
}

function applyOne(root: TreeNode, set: string): Fr1Error | undefined {
  const source = new Source(COMMAND_LINE, FLAG + set);
  const at = (start: number, end: number) => source.position(FLAG.length + start, FLAG.length + end);
  const equals = set.indexOf('=');
  if (equals === -1) {
    return new Fr1Error('SET_SYNTAX', `"${set}" has no value`, {
      at: at(0, set.length),
      hint: 'write --set path=value, e.g. --set seed=2 or --set vars.learningRate=1e-4',
    });
  }
  const path = parsePath(set.slice(0, equals));
  if (path.segments === undefined) {
    return new Fr1Error('SET_SYNTAX', path.message, {
      at: at(path.start, path.end),
      hint: 'write a path such as seed, vars.learningRate or stages.tapo.with.learningRate',
    });
  }
  const value = parseSetValue(source, FLAG.length + equals + 1);
  if (value instanceof Fr1Error) return value;
  return place(root, path.segments, value, at);
}

/** A YAML scalar, or a list or mapping in flow form; anything else is text. */
function parseSetValue(source: Source, start: number): TreeNode | Fr1Error {
  const text = source.text.slice(start);
  const placed = source.position(start, source.text.length);
  const document = parseDocument<ParsedNode>(text, { version: '1.2', schema: 'core', prettyErrors: false });
  const contents = document.contents;
  const written = { source, start, end: source.text.length };
  const scalar = (value: ScalarNode['value']): TreeNode => ({ kind: 'scalar', value, at: placed, written });
  if (contents === null) return scalar(null);
  if (isAlias(contents)) return scalar(text);
  if (isScalar(contents)) {
    if (document.errors.length > 0)
      return /^["']/.test(text.trim()) ? syntaxError(document.errors[0]!.message) : scalar(text);
    return scalar(contents.value as ScalarNode['value']);
  }
  if (!isCollection(contents) || contents.flow !== true) return scalar(text);
  // Padding keeps the offsets of the value equal to those in the whole argument.
  const padded = parseYaml(new Source(source.file, ' '.repeat(start) + text));
  const first = padded.problems[0];
  if (first !== undefined || padded.root === undefined) {
    return syntaxError(first?.message ?? 'the value is empty', first?.hint);
  }
  return replaceLines(padded.root, source.text);

  function syntaxError(message: string, hint?: string): Fr1Error {
    return new Fr1Error('SET_SYNTAX', `the value is not well-formed: ${message}`, { at: placed, hint });
  }
}

/** Gives every position the line that the user typed instead of the padded one. */
function replaceLines(node: TreeNode, lineText: string): TreeNode {
  const at = { ...node.at, lineText };
  if (node.kind === 'seq') return { ...node, at, items: node.items.map((item) => replaceLines(item, lineText)) };
  if (node.kind === 'map') {
    const entries = node.entries.map((entry) => ({
      key: entry.key,
      keyAt: { ...entry.keyAt, lineText },
      value: replaceLines(entry.value, lineText),
    }));
    return { ...node, at, entries };
  }
  return { ...node, at };
}

function place(
  root: TreeNode,
  segments: readonly PathSegment[],
  value: TreeNode,
  at: (start: number, end: number) => TreeNode['at'],
): Fr1Error | undefined {
  let node = root;
  for (const [depth, segment] of segments.entries()) {
    const isLast = depth === segments.length - 1;
    const here = at(segment.start, segment.end);
    const before = segments
      .slice(0, depth)
      .map(({ name }) => name)
      .join('.');
    const unknown = (message: string, hint?: string) => new Fr1Error('SET_PATH_UNKNOWN', message, { at: here, hint });
    if (node.kind === 'seq') {
      const index = /^\d+$/.test(segment.name) ? Number(segment.name) : -1;
      if (node.items[index] === undefined) {
        return unknown(
          `"${before}" is a list of ${node.items.length} and has no item "${segment.name}"`,
          'items count from 0',
        );
      }
      if (isLast) node.items[index] = value;
      else node = node.items[index]!;
      continue;
    }
    if (node.kind !== 'map') {
      return unknown(`"${before}" is a single value and has no "${segment.name}"`);
    }
    if (depth === 0 && !DOCUMENT_KEYS.includes(segment.name)) {
      return unknown(`a pipeline has no "${segment.name}"`, didYouMean(segment.name, DOCUMENT_KEYS, 'a pipeline has'));
    }
    const existing = entryOf(node, segment.name);
    if (existing === undefined && depth === 1 && (before === 'vars' || before === 'stages')) {
      const known = node.entries.map(({ key }) => key);
      const what = before === 'vars' ? 'variable' : 'stage';
      return unknown(`there is no ${what} "${segment.name}"`, didYouMean(segment.name, known, `${what}s`));
    }
    if (existing !== undefined) {
      if (isLast) existing.value = value;
      else if (existing.value.kind === 'scalar' && existing.value.value === null)
        node = existing.value = emptyMap(here);
      else node = existing.value;
      continue;
    }
    const added: TreeNode = isLast ? value : emptyMap(here);
    node.entries.push({ key: segment.name, keyAt: here, value: added });
    node = added;
  }
  return undefined;
}

function emptyMap(at: TreeNode['at']): MapNode {
  return { kind: 'map', entries: [], at };
}
