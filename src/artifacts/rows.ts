/** Reading and writing of labelled images, chats for fine-tuning and triplets, each with its images folder. */

import { existsSync } from 'node:fs';
import { constants, copyFile, link, mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { Fr1Error } from '../errors/fr1-error.ts';
import { isRecord, isStrings, type RowProblem, readJsonLines, readJsonObject, writeJsonLines } from './json-lines.ts';
import { readText } from './read-text.ts';
import { RowProblems } from './row-problems.ts';
import type { DatasetInfo, EvalRow, ImageRow, SftRow, TripletRow } from './types.ts';

export interface Dataset<Row> {
  readonly info: DatasetInfo;
  readonly rows: readonly Row[];
}

/**
 * A folder of labelled images.
 *
 * @throws DATA_UNREADABLE when dataset.json or rows.jsonl is missing or not as it should be
 * @throws DATA_ROW_INVALID for the first faulty row, a repeated id, a label that is no class or a missing image
 */
export async function readImageData(folder: string): Promise<Dataset<ImageRow>> {
  const info = await readInfo(folder);
  const classes = new Set(info.classes);
  const rows = await readRows<ImageRow>(folder, ['image', 'label', 'question'], ['image'], (row) => {
    if (!classes.has(row['label'] as string))
      return { problem: `its label "${row['label']}" is not among the classes` };
    const { attributes } = row;
    if (attributes !== undefined && !(isRecord(attributes) && isStrings(Object.values(attributes)))) {
      return { problem: '"attributes" is not a mapping from names to texts' };
    }
    return row as unknown as ImageRow;
  });
  return { info, rows };
}

/**
 * A folder of triplets.
 *
 * @throws DATA_UNREADABLE and DATA_ROW_INVALID as {@link readImageData}
 */
export async function readTripletData(folder: string): Promise<Dataset<TripletRow>> {
  const texts = ['anchor', 'positive', 'negative', 'question', 'label'];
  const rows = await readRows<TripletRow>(folder, texts, ['anchor', 'positive', 'negative'], (row) => {
    const { label, negativeLabel, options } = row;
    if (label === negativeLabel) return { problem: `its negative is of the class of its anchor, "${label}"` };
    if (options !== undefined && !(Array.isArray(options) && options.includes(label))) {
      return { problem: `its options do not hold its label "${label}"` };
    }
    return row as unknown as TripletRow;
  });
  return { info: await readInfo(folder), rows };
}

/** Fills dataset.json and rows.jsonl; the images are written apart. */
export async function writeDataset(
  folder: string,
  info: Omit<DatasetInfo, 'rows'>,
  rows: readonly (ImageRow | EvalRow | TripletRow)[],
): Promise<void> {
  await mkdir(folder, { recursive: true });
  const { name, superCategory, split, classes, groups, choices } = info;
  const full: DatasetInfo = {
    name,
    superCategory,
    split,
    classes,
    rows: rows.length,
    ...(groups && { groups }),
    ...(choices && { choices }),
  };
  await writeFile(path.join(folder, 'dataset.json'), `${JSON.stringify(full, null, 2)}\n`);
  await writeJsonLines(path.join(folder, 'rows.jsonl'), rows);
}

/**
 * The chats of an sft-data folder: data.json in LLaMA-Factory's sharegpt form. Each chat has one image per `<image>`.
 *
 * @throws DATA_UNREADABLE when data.json is missing, is not JSON or does not hold a list
 * @throws DATA_ROW_INVALID for the first chats, numbered from 0, that are faulty or miss an image
 */
export async function readSftData(folder: string): Promise<SftRow[]> {
  const file = path.join(folder, 'data.json');
  const text = await readText(file);
  let chats: unknown;
  try {
    chats = JSON.parse(text);
  } catch (cause) {
    throw new Fr1Error('DATA_UNREADABLE', `${file} is not JSON: ${(cause as Error).message}`, { cause });
  }
  if (!Array.isArray(chats)) throw new Fr1Error('DATA_UNREADABLE', `${file} does not hold a list of chats`);
  const problems = new RowProblems();
  const rows = chats.map((chat: unknown, index) => {
    const row = sftRow(chat);
    const missing = 'problem' in row ? undefined : row.images.find((image) => !existsSync(path.join(folder, image)));
    const problem = 'problem' in row ? row.problem : missing && `its image ${missing} does not exist`;
    if (problem !== undefined) problems.add(new Fr1Error('DATA_ROW_INVALID', `${file}: chat ${index}: ${problem}`));
    return row as SftRow;
  });
  problems.throwIfAny();
  return rows;
}

/** Fills data.json, and dataset_info.json by which LLaMA-Factory finds it; the images are written apart. */
export async function writeSftData(folder: string, rows: readonly SftRow[]): Promise<void> {
  await mkdir(folder, { recursive: true });
  await writeFile(path.join(folder, 'data.json'), `${JSON.stringify(rows, null, 2)}\n`);
  const registration = {
    fr1: {
      file_name: 'data.json',
      formatting: 'sharegpt',
      columns: { messages: 'messages', images: 'images' },
      tags: {
        role_tag: 'role',
        content_tag: 'content',
        user_tag: 'user',
        assistant_tag: 'assistant',
        system_tag: 'system',
      },
    },
  };
  await writeFile(path.join(folder, 'dataset_info.json'), `${JSON.stringify(registration, null, 2)}\n`);
}

/** Puts images of one artifact into another under the same relative paths: hard links, or copies where links cannot be. */
export async function linkImages(
  from: string,
  to: string,
  images: Iterable<string>,
  signal?: AbortSignal,
): Promise<void> {
  const made = new Set<string>();
  for (const image of new Set(images)) {
    signal?.throwIfAborted();
    const target = path.join(to, image);
    const folder = path.dirname(target);
    if (!made.has(folder)) {
      await mkdir(folder, { recursive: true });
      made.add(folder);
    }
    try {
      await link(path.join(from, image), target);
    } catch (error) {
      if (!CANNOT_LINK.has((error as NodeJS.ErrnoException).code ?? '')) throw error;
      await copyFile(path.join(from, image), target, constants.COPYFILE_FICLONE);
    }
  }
}

/** Other file systems, and file systems or mounts without hard links. */
const CANNOT_LINK: ReadonlySet<string> = new Set(['EXDEV', 'EPERM', 'ENOTSUP', 'EMLINK', 'EACCES', 'ENOSYS']);

async function readInfo(folder: string): Promise<DatasetInfo> {
  const file = path.join(folder, 'dataset.json');
  const info = await readJsonObject(file);
  const { name, superCategory, split, classes } = info;
  if (typeof name !== 'string' || typeof superCategory !== 'string' || typeof split !== 'string') {
    throw new Fr1Error('DATA_UNREADABLE', `${file} lacks "name", "superCategory" or "split"`);
  }
  if (!isStrings(classes)) throw new Fr1Error('DATA_UNREADABLE', `${file} lacks "classes", a list of names`);
  return info as unknown as DatasetInfo;
}

/** Rows with an `id` of their own, the given texts and existing images; `finish` checks the rest. */
async function readRows<Row extends object>(
  folder: string,
  texts: readonly string[],
  images: readonly string[],
  finish: (row: Readonly<Record<string, unknown>>) => Row | RowProblem,
): Promise<Row[]> {
  const ids = new Set<unknown>();
  return readJsonLines<Row>(path.join(folder, 'rows.jsonl'), (row) => {
    if (!isRecord(row)) return { problem: 'it is not an object' };
    for (const name of ['id', ...texts]) {
      if (typeof row[name] !== 'string' || row[name] === '') return { problem: `"${name}" is not a text` };
    }
    if (ids.has(row['id'])) return { problem: 'another row has the same id' };
    ids.add(row['id']);
    for (const name of images) {
      const image = row[name] as string;
      if (!isInside(image)) return { problem: `its image ${image} lies outside the folder` };
      if (!existsSync(path.join(folder, image))) return { problem: `its image ${image} does not exist` };
    }
    return finish(row);
  });
}

/** Whether a path that data names stays in its folder. */
export function isInside(relative: string): boolean {
  return !path.isAbsolute(relative) && !relative.split(/[\\/]/).includes('..');
}

const ROLES: readonly unknown[] = ['system', 'user', 'assistant'];

function sftRow(chat: unknown): SftRow | RowProblem {
  if (!isRecord(chat)) return { problem: 'it is not an object' };
  const { messages, images } = chat;
  if (!Array.isArray(messages) || messages.length === 0) return { problem: '"messages" is not a list of messages' };
  let markers = 0;
  for (const message of messages as unknown[]) {
    if (!isRecord(message) || !ROLES.includes(message['role']) || typeof message['content'] !== 'string') {
      return { problem: 'a message lacks a known "role" or a text "content"' };
    }
    markers += message['content'].split('<image>').length - 1;
  }
  if ((messages as { role: string }[]).at(-1)!.role !== 'assistant') {
    return { problem: 'its last message is not by the assistant' };
  }
  if (!isStrings(images)) return { problem: '"images" is not a list of paths' };
  if (images.length !== markers) return { problem: `it has ${images.length} images for ${markers} <image> marks` };
  const outside = images.find((image) => !isInside(image));
  if (outside !== undefined) return { problem: `its image ${outside} lies outside the folder` };
  return { messages: messages as unknown as SftRow['messages'], images };
}
