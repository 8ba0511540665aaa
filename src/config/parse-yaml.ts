/**
 * YAML 1.2 text -> tree with positions.
 *
 * Left out of YAML on purpose: several documents, custom tags, keys that are not plain text, unbounded aliases.
 */
import {
  isAlias,
  isCollection,
  isMap,
  isScalar,
  isSeq,
  type Node,
  type ParsedNode,
  parseDocument,
  type YAMLParseError,
} from 'yaml';
import type { ErrorCode } from '../errors/catalogue.ts';
import { Fr1Error } from '../errors/fr1-error.ts';
import type { Source } from './source.ts';
import type { MapEntry, TreeNode } from './tree.ts';

/** How many values the aliases of one file may expand to. */
export const MAX_ALIAS_VALUES = 10_000;

export interface ParsedText {
  /** Absent when the text is empty or not well-formed. */
  readonly root?: TreeNode;
  readonly problems: readonly Fr1Error[];
}

export function parseYaml(source: Source): ParsedText {
  let document: ReturnType<typeof parseDocument<ParsedNode>>;
  try {
    document = parseDocument<ParsedNode>(source.text, {
      version: '1.2',
      schema: 'core',
      uniqueKeys: false,
      prettyErrors: false,
      keepSourceTokens: false,
    });
  } catch (cause) {
    if (!(cause instanceof RangeError)) throw cause;
    const problem = new Fr1Error('YAML_SYNTAX', 'values are nested too deeply', { at: source.position(0), cause });
    return { problems: [problem] };
  }
  const problems = syntaxProblems(document.errors, source);
  if (problems.length > 0) return { problems };
  const { yaml } = document.directives ?? {};
  if (yaml?.explicit === true && yaml.version !== '1.2') {
    problems.push(
      new Fr1Error('YAML_UNSUPPORTED', `the file asks for YAML ${yaml.version}, but pipelines are YAML 1.2`, {
        at: source.position(Math.max(0, source.text.indexOf('%YAML')), source.text.indexOf('%YAML') + 5),
        hint: 'remove the %YAML line',
      }),
    );
  }
  for (const warning of document.warnings) {
    const [start, end] = warning.pos;
    const tag = source.text.slice(start, end);
    problems.push(
      new Fr1Error('YAML_UNSUPPORTED', `pipelines have no custom tags such as ${tag}`, {
        at: source.position(start, end),
        hint: `remove ${tag}`,
      }),
    );
  }
  if (document.contents === null) return { problems };
  const root = new TreeBuilder(source, problems).build(document.contents);
  return { root, problems };
}

class TreeBuilder {
  readonly #source: Source;
  readonly #problems: Fr1Error[];
  /** `null` while the anchored value is being built. */
  readonly #anchors = new Map<string, TreeNode | null>();
  #aliasValues = 0;

  constructor(source: Source, problems: Fr1Error[]) {
    this.#source = source;
    this.#problems = problems;
  }

  build(node: Node): TreeNode {
    const anchor = isScalar(node) || isCollection(node) ? node.anchor : undefined;
    if (anchor !== undefined) this.#anchors.set(anchor, null);
    const built = this.#value(node);
    if (anchor !== undefined) this.#anchors.set(anchor, built);
    return built;
  }

  #value(node: Node): TreeNode {
    const [start, end] = rangeOf(node);
    const at = this.#source.position(start, end);
    if (isAlias(node)) return this.#alias(node.source, start, end);
    if (isScalar(node)) {
      const value = node.value;
      if (typeof value === 'number' && /^[-+]?0\d/.test(node.source ?? '')) {
        return this.#fail(
          'YAML_UNSUPPORTED',
          `${node.source} is ${value} in YAML 1.2, but another number in YAML 1.1`,
          start,
          end,
          'leave out the leading zero, or write quotes around a text',
        );
      }
      if (value === null || typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean') {
        const written = { source: this.#source, start, end };
        return { kind: 'scalar', value, at, written, folder: this.#source.folder };
      }
      return this.#fail('YAML_UNSUPPORTED', 'this value is of a kind that pipelines do not have', start, end);
    }
    if (isSeq(node)) {
      const items = node.items.map((item) => (item === null ? nullAt(at) : this.build(item as Node)));
      return { kind: 'seq', items, at };
    }
    if (isMap(node)) {
      const entries: MapEntry[] = [];
      const byKey = new Map<string, MapEntry>();
      for (const pair of node.items) {
        const entry = this.#entry(pair.key as Node | null, pair.value as Node | null, start, byKey);
        if (entry === undefined) continue;
        entries.push(entry);
        byKey.set(entry.key, entry);
      }
      return { kind: 'map', entries, at };
    }
    return this.#fail('YAML_UNSUPPORTED', 'this value is of a kind that pipelines do not have', start, end);
  }

  #entry(
    keyNode: Node | null,
    valueNode: Node | null,
    mapStart: number,
    known: ReadonlyMap<string, MapEntry>,
  ): MapEntry | undefined {
    const [start, end] = keyNode === null ? [mapStart, mapStart + 1] : rangeOf(keyNode);
    const keyAt = this.#source.position(start, end);
    if (!isScalar(keyNode) || keyNode.value === null) {
      this.#fail('YAML_UNSUPPORTED', 'a key must be plain text', start, end);
      return undefined;
    }
    const key = typeof keyNode.value === 'string' ? keyNode.value : (keyNode.source ?? String(keyNode.value));
    const earlier = known.get(key);
    if (earlier !== undefined) {
      this.#problems.push(
        new Fr1Error('YAML_DUPLICATE_KEY', `the key "${key}" stands here for the second time`, {
          at: keyAt,
          hint: `the first is on line ${earlier.keyAt.line}; keep one of them`,
        }),
      );
      return undefined;
    }
    const isAbsent = valueNode === null || (isScalar(valueNode) && valueNode.source === '' && valueNode.value === null);
    return { key, keyAt, value: isAbsent ? nullAt(keyAt) : this.build(valueNode) };
  }

  #alias(name: string, start: number, end: number): TreeNode {
    const target = this.#anchors.get(name);
    if (target === undefined) {
      return this.#fail(
        'YAML_ALIAS_UNKNOWN',
        `the alias *${name} has no anchor &${name} above it`,
        start,
        end,
        'text that starts with * needs quotes',
      );
    }
    if (target === null) {
      return this.#fail('YAML_ALIAS_EXPANSION', `the alias *${name} stands inside of its own anchor`, start, end);
    }
    if (this.#aliasValues > MAX_ALIAS_VALUES) return { kind: 'failed', at: this.#source.position(start, end) };
    const copy = this.#copy(target);
    if (this.#aliasValues > MAX_ALIAS_VALUES) {
      return this.#fail(
        'YAML_ALIAS_EXPANSION',
        `the aliases up to *${name} expand to more than ${MAX_ALIAS_VALUES} values`,
        start,
        end,
      );
    }
    return copy;
  }

  /** A copy of its own, so that an override of one place leaves the others alone. */
  #copy(node: TreeNode): TreeNode {
    if (++this.#aliasValues > MAX_ALIAS_VALUES) return { kind: 'failed', at: node.at };
    if (node.kind === 'seq') {
      const items: TreeNode[] = [];
      for (const item of node.items) {
        if (this.#aliasValues > MAX_ALIAS_VALUES) break;
        items.push(this.#copy(item));
      }
      return { ...node, items };
    }
    if (node.kind === 'map') {
      const entries: MapEntry[] = [];
      for (const entry of node.entries) {
        if (this.#aliasValues > MAX_ALIAS_VALUES) break;
        entries.push({ ...entry, value: this.#copy(entry.value) });
      }
      return { ...node, entries };
    }
    return node;
  }

  #fail(code: ErrorCode, message: string, start: number, end: number, hint?: string): TreeNode {
    const at = this.#source.position(start, end);
    this.#problems.push(new Fr1Error(code, message, { at, hint }));
    return { kind: 'failed', at };
  }
}

/** The first problem, and tabs wherever they are: the parser's other messages follow from the first. */
function syntaxProblems(errors: readonly YAMLParseError[], source: Source): Fr1Error[] {
  return errors
    .filter((error, i) => i === 0 || error.code === 'TAB_AS_INDENT')
    .map((error) => syntaxProblem(error, source));
}

function syntaxProblem(error: YAMLParseError, source: Source): Fr1Error {
  const [reported, end] = error.pos;
  const blank = /^[ \t]*(?=\S)/.exec(source.text.slice(reported))?.[0].length ?? 0;
  const start = error.code === 'TAB_AS_INDENT' ? reported : reported + blank;
  const at = source.position(start, end);
  const text = at.lineText ?? '';
  const tab = /^ *\t/.exec(text);
  if (error.code === 'TAB_AS_INDENT' || tab !== null) {
    const column = start + (tab === null ? 0 : tab[0].length - at.col);
    return new Fr1Error('YAML_TAB_INDENTATION', 'this line is indented with a tab', {
      at: source.position(column, column + 1),
      hint: 'indent with spaces',
    });
  }
  if (error.code === 'MULTIPLE_DOCS') {
    return new Fr1Error('YAML_MULTIPLE_DOCUMENTS', 'a second YAML document starts here', {
      at: source.position(start, start + 3),
      hint: 'a pipeline is one document: remove what follows, or put it into another file',
    });
  }
  if (/call stack/i.test(error.message)) {
    // How deep it got depends on the stack: the line is all that can be said.
    return new Fr1Error('YAML_SYNTAX', 'values are nested too deeply', { at: source.position(start - at.col + 1) });
  }
  const quote = /closing (['"])quote/.exec(error.message)?.[1];
  if (quote !== undefined) {
    return new Fr1Error('YAML_SYNTAX', `a text that starts with ${quote} has no closing ${quote}`, {
      at,
      hint: 'look above for the line where the text starts',
    });
  }
  if (source.text.slice(start - 1, start + 2) === '${{') {
    const close = source.text.indexOf('}}', start);
    return new Fr1Error('YAML_SYNTAX', 'inside { } and [ ] an expression needs quotes', {
      at: source.position(start - 1, close === -1 ? start + 2 : close + 2),
      hint: 'write "${{ vars.name }}"',
    });
  }
  return new Fr1Error('YAML_SYNTAX', lowerFirst(error.message), {
    at,
    hint: 'look for a bracket, quote or indentation that is wrong here or just above',
  });
}

function rangeOf(node: Node): [number, number] {
  const range = node.range;
  if (range === null || range === undefined) return [0, 1];
  return [range[0], Math.max(range[0] + 1, range[1])];
}

function nullAt(at: TreeNode['at']): TreeNode {
  return { kind: 'scalar', value: null, at };
}

function lowerFirst(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1);
}
