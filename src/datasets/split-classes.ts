/** Which classes training may use (seen) and which only a test does (unseen). */
import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { isRecord, readJsonLines } from '../artifacts/json-lines.ts';
import { RandomStream } from '../engine/random.ts';
import { Fr1Error } from '../errors/fr1-error.ts';
import { readLines } from './text-lists.ts';

export interface ClassSplit {
  readonly seen: readonly string[];
  readonly unseen: readonly string[];
}

/**
 * A random choice by seed; both lists keep the order of the source.
 *
 * @param seenCount Fine-R1 takes the whole part of 60 % of the classes
 */
export function randomSplit(
  labels: readonly string[],
  seenCount: number,
  unseenCount: number,
  seed: number,
): ClassSplit {
  if (seenCount + unseenCount > labels.length) {
    const asked = `${seenCount} seen and ${unseenCount} unseen`;
    throw new Fr1Error('DATA_INSUFFICIENT', `the source has ${labels.length} classes, fewer than ${asked}`);
  }
  const order = new RandomStream('dataset', 'classes', seed).shuffled(labels);
  const [seen, unseen] = [new Set(order.slice(0, seenCount)), new Set(order.slice(seenCount, seenCount + unseenCount))];
  return { seen: labels.filter((label) => seen.has(label)), unseen: labels.filter((label) => unseen.has(label)) };
}

/**
 * The split that a folder lists: `seen.txt` and `unseen.txt` with a class a line, or evaluation files of Fine-R1,
 * `<category>_seen.jsonl` and `<category>_unseen.jsonl`.
 *
 * @throws DATA_UNREADABLE when the folder holds neither
 * @throws DATA_ROW_INVALID for a class that the source lacks or that both lists have
 */
export async function listedSplit(folder: string, category: string, labels: readonly string[]): Promise<ClassSplit> {
  const known = new Set(labels);
  const seen = await listed(folder, category, 'seen', known);
  const unseen = await listed(folder, category, 'unseen', known);
  const both = [...seen].find((label) => unseen.has(label));
  if (both !== undefined) throw new Fr1Error('DATA_ROW_INVALID', `${folder} lists "${both}" as seen and as unseen`);
  return { seen: labels.filter((label) => seen.has(label)), unseen: labels.filter((label) => unseen.has(label)) };
}

async function listed(
  folder: string,
  category: string,
  name: string,
  known: ReadonlySet<string>,
): Promise<Set<string>> {
  const text = path.join(folder, `${name}.txt`);
  const jsonl = path.join(folder, `${category}_${name}.jsonl`);
  if (existsSync(text)) {
    const found = new Set<string>();
    for (const { text: label, at } of await readLines(text)) {
      if (!known.has(label)) throw new Fr1Error('DATA_ROW_INVALID', `the source has no class "${label}"`, { at });
      found.add(label);
    }
    return found;
  }
  if (!existsSync(jsonl)) {
    const has = readdirSync(folder).slice(0, 8).join(', ');
    throw new Fr1Error(
      'DATA_UNREADABLE',
      `${folder} has neither ${name}.txt nor ${category}_${name}.jsonl; it has: ${has}`,
    );
  }
  const rows = await readJsonLines<{ label: string }>(jsonl, (row) => {
    const label = isRecord(row) ? row['ground_truth'] : undefined;
    if (typeof label !== 'string') return { problem: '"ground_truth" is not a text' };
    return known.has(label) ? { label } : { problem: `the source has no class "${label}"` };
  });
  return new Set(rows.map(({ label }) => label));
}
