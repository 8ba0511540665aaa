/** The document as a tree in which every key and value knows where it was written. */
import { COMMAND_LINE } from '../errors/format.ts';
import type { SourcePosition } from '../errors/fr1-error.ts';
import type { Source } from './source.ts';
import type { ArtifactRef } from './types.ts';

interface Placed {
  readonly at: SourcePosition;
  /** Where the value came from when it was not written here, e.g. `vars.learningRate`. */
  readonly via?: string | undefined;
}

export interface ScalarNode extends Placed {
  readonly kind: 'scalar';
  readonly value: string | number | boolean | null;
  /** The written form, for positions inside of it. */
  readonly written?: { readonly source: Source; readonly start: number; readonly end: number };
  /** Absolute folder of the file that it was written in, which a relative path starts at. */
  readonly folder?: string | undefined;
}

export interface MapNode extends Placed {
  readonly kind: 'map';
  readonly entries: MapEntry[];
}

export interface MapEntry {
  readonly key: string;
  readonly keyAt: SourcePosition;
  value: TreeNode;
}

export interface SeqNode extends Placed {
  readonly kind: 'seq';
  readonly items: TreeNode[];
}

/** An expression that named an output of a stage. */
export interface RefNode extends Placed {
  readonly kind: 'ref';
  readonly ref: ArtifactRef;
}

/** A value whose expression failed; its problem is already reported, so nothing more is said about it. */
export interface FailedNode extends Placed {
  readonly kind: 'failed';
}

export type TreeNode = ScalarNode | MapNode | SeqNode | RefNode | FailedNode;

/** Stands in plain values for a {@link FailedNode}. */
export const FAILED = Object.freeze({ failed: true });

export function entryOf(node: TreeNode | undefined, key: string): MapEntry | undefined {
  return node?.kind === 'map' ? node.entries.find((entry) => entry.key === key) : undefined;
}

export function childOf(node: TreeNode | undefined, key: string): TreeNode | undefined {
  return entryOf(node, key)?.value;
}

/** Plain values; keys are own properties whatever their name. */
export function toValue(node: TreeNode): unknown {
  switch (node.kind) {
    case 'scalar':
      return node.value;
    case 'seq':
      return node.items.map(toValue);
    case 'map': {
      const object: Record<string, unknown> = {};
      for (const { key, value } of node.entries) {
        Object.defineProperty(object, key, {
          value: toValue(value),
          enumerable: true,
          configurable: true,
          writable: true,
        });
      }
      return object;
    }
    case 'ref':
      return node.ref;
    case 'failed':
      return FAILED;
    default:
      return node satisfies never;
  }
}

export function isArtifactRef(value: unknown): value is ArtifactRef {
  return value !== null && typeof value === 'object' && (value as { kind?: unknown }).kind === 'artifact-ref';
}

export interface Located {
  readonly node: TreeNode;
  /** Position of the key that names the node, where it has one. */
  readonly keyAt?: SourcePosition | undefined;
  /** Whether the whole pointer exists in the text; else `node` is the nearest parent that does. */
  readonly exact: boolean;
}

/** The node at a JSON pointer, or its nearest existing parent. */
export function locate(root: TreeNode, pointer: string, rootKeyAt?: SourcePosition): Located {
  let node = root;
  let keyAt = rootKeyAt;
  for (const segment of pointerSegments(pointer)) {
    if (node.kind === 'map') {
      const entry = entryOf(node, segment);
      if (entry === undefined) return { node, keyAt, exact: false };
      node = entry.value;
      keyAt = entry.keyAt;
    } else if (node.kind === 'seq' && node.items[Number(segment)] !== undefined) {
      node = node.items[Number(segment)]!;
      keyAt = undefined;
    } else {
      return { node, keyAt, exact: false };
    }
  }
  return { node, keyAt, exact: true };
}

export function pointerSegments(pointer: string): string[] {
  if (pointer === '') return [];
  return pointer
    .slice(1)
    .split('/')
    .map((segment) => segment.replaceAll('~1', '/').replaceAll('~0', '~'));
}

export function pointerOf(segments: readonly (string | number)[]): string {
  return segments.map((segment) => `/${String(segment).replaceAll('~', '~0').replaceAll('/', '~1')}`).join('');
}

/**
 * The same values at another place: what an expression puts where it stands. A value from the command line keeps its
 * place, since that is what the user must change.
 */
export function moved(node: TreeNode, place: SourcePosition, via: string): TreeNode {
  const at = node.at.file === COMMAND_LINE ? node.at : place;
  switch (node.kind) {
    case 'scalar':
      return { kind: 'scalar', value: node.value, at, via, folder: node.folder };
    case 'seq':
      return { kind: 'seq', items: node.items.map((item) => moved(item, place, via)), at, via };
    case 'map':
      return {
        kind: 'map',
        entries: node.entries.map(({ key, value }) => ({ key, keyAt: at, value: moved(value, place, via) })),
        at,
        via,
      };
    case 'ref':
    case 'failed':
      return { ...node, at, via };
    default:
      return node satisfies never;
  }
}

/** How a value is called in messages: `3`, `the text "abc"`, `a list`. */
export function describe(value: unknown): string {
  if (value === null) return 'empty';
  if (isArtifactRef(value)) return `stages.${value.stage}.outputs.${value.output}`;
  if (Array.isArray(value)) return value.length === 0 ? 'an empty list' : 'a list';
  if (typeof value === 'object') return 'a mapping';
  if (typeof value === 'string')
    return `the text ${JSON.stringify(value.length > 60 ? `${value.slice(0, 57)}...` : value)}`;
  return String(value);
}
