/** From which classes the negatives of a class and the wrong options of a question are taken. */
import path from 'node:path';
import { isStrings, readJsonObject } from '../../src/artifacts/json-lines.ts';
import type { DatasetInfo, ImageRow } from '../../src/artifacts/types.ts';
import { type ClassSimilarity, groupSimilarity, vectorSimilarity } from '../../src/datasets/class-similarity.ts';
import { classVectors } from '../../src/datasets/class-vectors.ts';
import { WRONG_OPTIONS } from '../../src/datasets/hard-options.ts';
import { openImageEmbedder } from '../../src/engine/models/qwen2_5_vl/image-embedder.ts';
import type { RandomStream } from '../../src/engine/random.ts';
import { Fr1Error } from '../../src/errors/fr1-error.ts';
import { sourceOfLease } from '../../src/pool/session-source.ts';
import type { StageContext } from '../../src/run/stage-api.ts';
import type { TripletsOptions } from './options.ts';

export type ImagesByClass = ReadonlyMap<string, readonly ImageRow[]>;

/** By class those that its negatives are drawn from, several where they tie. @throws DATA_INSUFFICIENT, DATA_ROW_INVALID */
export async function negativeClasses(
  context: StageContext<TripletsOptions>,
  info: DatasetInfo,
  byClass: ImagesByClass,
): Promise<ReadonlyMap<string, readonly string[]>> {
  const labels = [...byClass.keys()];
  const choose = await chooser(context, info, byClass);
  return new Map(labels.map((label) => [label, choose(label)]));
}

async function chooser(
  context: StageContext<TripletsOptions>,
  info: DatasetInfo,
  byClass: ImagesByClass,
): Promise<(label: string) => string[]> {
  const { negative, hierarchy, model, data } = context.options;
  const labels = [...byClass.keys()];
  switch (negative) {
    case 'random':
      return (label) => labels.filter((other) => other !== label);
    case 'similar':
      return (label) => inNearestGroup(label, mostSimilar(label, byClass), info);
    case 'hierarchy':
      return nearest(labels, groupSimilarity(await groupsOf(labels, info, hierarchy?.path)));
    case 'embedding':
      return nearest(labels, await looks(context, byClass, model!.path, data.path));
    default:
      return negative satisfies never;
  }
}

function nearest(labels: readonly string[], similarity: ClassSimilarity): (label: string) => string[] {
  return (label) => {
    const others = labels.filter((other) => other !== label);
    const values = others.map((other) => similarity(label, other));
    const most = Math.max(...values);
    return others.filter((_, i) => values[i] === most);
  };
}

/** Of classes that are equally near by attributes or name those that share most groups, where groups are known. */
function inNearestGroup(label: string, tied: readonly string[], { groups }: DatasetInfo): string[] {
  if (groups === undefined) return [...tied];
  const sharedWith = (other: string) => {
    const [own, theirs] = [groups[label] ?? [], groups[other] ?? []];
    const differ = own.findIndex((group, level) => group !== theirs[level]);
    return differ === -1 ? own.length : differ;
  };
  const most = Math.max(...tied.map(sharedWith));
  return tied.filter((other) => sharedWith(other) === most);
}

/** @throws DATA_INSUFFICIENT where neither data nor file tell groups, DATA_ROW_INVALID for a class without any */
export async function groupsOf(labels: readonly string[], { name, groups }: DatasetInfo, file: string | undefined) {
  const given: Readonly<Record<string, unknown>> | undefined = file === undefined ? groups : await readJsonObject(file);
  if (given === undefined) {
    throw new Fr1Error('DATA_INSUFFICIENT', `${name} tells no groups of its classes`, {
      hint: 'give a file of groups as `hierarchy`, or take negative: similar',
    });
  }
  return labels.map((label) => {
    const own = given[label];
    if (isStrings(own)) return { label, groups: own };
    throw new Fr1Error('DATA_ROW_INVALID', `${file ?? name} has no list of groups for the class "${label}"`);
  });
}

async function looks(
  { lease, signal, progress }: StageContext<TripletsOptions>,
  byClass: ImagesByClass,
  checkpoint: string,
  folder: string,
): Promise<ClassSimilarity> {
  const pictures = new Map(
    [...byClass].map(([label, rows]) => [
      label,
      rows.map(
        ({ image }) =>
          async () =>
            path.join(folder, image),
      ),
    ]),
  );
  const embedder = await openImageEmbedder(sourceOfLease(lease), checkpoint);
  try {
    const onClass = (done: number, total: number) => progress({ done, total, unit: 'classes', note: 'looking' });
    return vectorSimilarity(await classVectors(pictures, embedder, { signal, onClass }));
  } finally {
    await embedder.release();
  }
}

/** The other classes at the smallest distance; several where they tie. */
export function mostSimilar(label: string, byClass: ImagesByClass): string[] {
  const others = [...byClass.keys()].filter((other) => other !== label);
  const distances = others.map((other) => classDistance(byClass.get(label)![0]!, byClass.get(other)![0]!));
  const least = Math.min(...distances);
  return others.filter((_, i) => distances[i] === least);
}

/** The label among the nearest other classes, in random order; ties are broken at random. */
export function offeredOptions(label: string, byClass: ImagesByClass, stream: RandomStream): string[] {
  const own = byClass.get(label)![0]!;
  const others = stream
    .shuffled([...byClass.keys()].filter((other) => other !== label))
    .map((other) => ({ other, distance: classDistance(own, byClass.get(other)![0]!) }))
    .sort((a, b) => a.distance - b.distance)
    .slice(0, WRONG_OPTIONS);
  return stream.shuffled([label, ...others.map(({ other }) => other)]);
}

/** Number of attributes that differ; where a class has none, minus the number of words that the two names share. */
function classDistance(a: ImageRow, b: ImageRow): number {
  const [first, second] = [a.attributes, b.attributes];
  if (first !== undefined && second !== undefined) {
    const keys = new Set([...Object.keys(first), ...Object.keys(second)]);
    return [...keys].filter((key) => first[key] !== second[key]).length;
  }
  const words = (text: string) => new Set(text.toLowerCase().split(/[\s_-]+/));
  const theirs = words(b.label);
  return -[...words(a.label)].filter((word) => theirs.has(word)).length;
}
