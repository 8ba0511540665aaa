/**
 * `extends`: a pipeline that changes another one. Files are merged as trees, so that each value keeps the file and place
 * where it was written.
 *
 * Mappings are merged key by key; anything else replaces. A key without a value removes what the other file has there. A
 * stage with another `uses` starts without the options of the one it replaces. Of several files the later wins; the file
 * itself wins over all. Relative paths start at the folder of the file in which they are written.
 */
import path from 'node:path';
import { Fr1Error, type SourcePosition } from '../errors/fr1-error.ts';
import { parseYaml } from './parse-yaml.ts';
import { readSource } from './read-source.ts';
import type { Source } from './source.ts';
import { childOf, describe, entryOf, type MapEntry, type MapNode, type TreeNode, toValue } from './tree.ts';

/** Files that may build on each other; more are a mistake. */
const MAX_FILES = 32;

export interface LoadedTree {
  /** Absent when the file is empty or not well-formed. */
  readonly root?: TreeNode;
  readonly problems: readonly Fr1Error[];
  /** Whether every file of the chain could be read in full. */
  readonly isComplete: boolean;
}

/** The file's tree with all that it extends merged in; the key `extends` is gone. */
export function loadTree(source: Source, absolute: string): LoadedTree {
  const problems: Fr1Error[] = [];
  const chain = new Chain(problems);
  const root = chain.load(source, [absolute]);
  return { ...(root !== undefined && { root }), problems, isComplete: problems.length === 0 };
}

class Chain {
  readonly #problems: Fr1Error[];
  #files = 0;

  constructor(problems: Fr1Error[]) {
    this.#problems = problems;
  }

  /** @param open absolute paths of the files that wait for this one, itself last */
  load(source: Source, open: readonly string[]): TreeNode | undefined {
    const parsed = parseYaml(source);
    this.#problems.push(...parsed.problems);
    const { root } = parsed;
    const entry = entryOf(root, 'extends');
    if (root?.kind !== 'map' || entry === undefined) return root;
    const own: MapNode = { ...root, entries: root.entries.filter((each) => each !== entry) };
    const bases = this.#names(entry).flatMap(({ name, at }) => {
      const base = this.#base(name, at, source, open);
      return base === undefined ? [] : [base];
    });
    return [...bases, own].reduce((under, over) => merge(under, over, []));
  }

  #names(entry: MapEntry): { name: string; at: SourcePosition }[] {
    const { value } = entry;
    const items = value.kind === 'seq' ? value.items : [value];
    return items.flatMap((item) => {
      if (item.kind === 'scalar' && typeof item.value === 'string' && item.value !== '') {
        if (!item.value.includes('${{')) return [{ name: item.value, at: item.at }];
        this.#fail('a path under "extends" is fixed: it takes no expressions', item.at);
      } else if (item.kind !== 'failed') {
        this.#fail(
          `"extends" takes the path of a pipeline file or a list of them, not ${describe(toValue(item))}`,
          item.at,
        );
      }
      return [];
    });
  }

  #base(name: string, at: SourcePosition, from: Source, open: readonly string[]): TreeNode | undefined {
    const absolute = path.resolve(from.folder ?? '.', name);
    const circle = open.indexOf(absolute);
    if (circle !== -1) {
      const names = [...open.slice(circle), absolute].map((file) => path.basename(file));
      return this.#fail(`files extend each other in a circle: ${names.join(' -> ')}`, at);
    }
    if (++this.#files > MAX_FILES) return this.#fail(`a pipeline extends at most ${MAX_FILES} files`, at);
    // Named like the file that names it: from where the user stands.
    const shown = path.isAbsolute(name) ? name : path.join(path.dirname(from.file), name);
    try {
      const source = readSource(shown, absolute, {
        missing: 'EXTENDS_UNREADABLE',
        unreadable: 'EXTENDS_UNREADABLE',
        at,
        hint: `paths start at the folder of ${from.file}: ${absolute}`,
      });
      const root = this.load(source, [...open, absolute]);
      if (root === undefined || root.kind === 'map') return root;
      return this.#fail(`${shown} is not a pipeline: it holds ${describe(toValue(root))}`, at);
    } catch (problem) {
      if (!(problem instanceof Fr1Error)) throw problem;
      this.#problems.push(problem);
      return undefined;
    }
  }

  #fail(message: string, at: SourcePosition): undefined {
    this.#problems.push(new Fr1Error('EXTENDS_UNREADABLE', message, { at }));
  }
}

function merge(under: TreeNode, over: TreeNode, keys: readonly string[]): TreeNode {
  if (under.kind !== 'map' || over.kind !== 'map') return over;
  const isOtherKind = keys.length === 2 && keys[0] === 'stages' && usesAnother(under, over);
  const kept = isOtherKind ? under.entries.filter(({ key }) => key !== 'with') : under.entries;
  const entries = kept.flatMap((entry): MapEntry[] => {
    const change = entryOf(over, entry.key);
    if (change === undefined) return [entry];
    if (change.value.kind === 'scalar' && change.value.value === null) return [];
    return [{ ...change, value: merge(entry.value, change.value, [...keys, entry.key]) }];
  });
  const added = over.entries.filter(({ key }) => entryOf({ ...under, entries: kept }, key) === undefined);
  return { ...over, entries: [...entries, ...added] };
}

function usesAnother(under: MapNode, over: MapNode): boolean {
  const uses = childOf(over, 'uses');
  const before = childOf(under, 'uses');
  return uses?.kind === 'scalar' && before?.kind === 'scalar' && uses.value !== before.value;
}
