/** Why a stage runs again: the named fields of its fingerprint that differ. */
import { canonicalJson } from './canonical-json.ts';
import type { FieldChange, FingerprintFields } from './types.ts';

/** Fields that differ, sorted by path; mappings are compared key by key, lists item by item. */
export function explainRerun(before: FingerprintFields, after: FingerprintFields): FieldChange[] {
  const changes: FieldChange[] = [];
  compare('', before, after, changes);
  return changes.sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0));
}

/** `options.learningRate: 0.0001 -> 0.00001` */
export function printChange({ path, before, after }: FieldChange): string {
  return `${path}: ${print(before)} -> ${print(after)}`;
}

function compare(path: string, before: unknown, after: unknown, changes: FieldChange[]): void {
  if (isContainer(before) && isContainer(after) && Array.isArray(before) === Array.isArray(after)) {
    const left = before as Record<string, unknown>;
    const right = after as Record<string, unknown>;
    for (const key of new Set([...Object.keys(left), ...Object.keys(right)])) {
      const name = key.startsWith('/') ? key.slice(1).replaceAll('/', '.') : key;
      compare(path === '' ? name : `${path}.${name}`, left[key], right[key], changes);
    }
  } else if (before === undefined || after === undefined) {
    if (before !== after) changes.push({ path, before, after });
  } else if (canonicalJson(before) !== canonicalJson(after)) {
    changes.push({ path, before, after });
  }
}

function isContainer(value: unknown): value is object {
  return value !== null && typeof value === 'object';
}

function print(value: unknown): string {
  if (value === undefined) return 'absent';
  if (typeof value === 'string' && /^sha256:[0-9a-f]{64}$/.test(value)) return value.slice(0, 'sha256:'.length + 12);
  return JSON.stringify(value);
}
