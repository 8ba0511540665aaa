/**
 * Copies images into an artifact. Files of the user are copied and not linked, so that editing one cannot change an artifact.
 * EXIF orientation stays in the file and is applied wherever an image is decoded.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { Fr1Error } from '../errors/fr1-error.ts';
import type { LookedAt } from './image-looker.ts';

/** The images folder of one artifact. */
export class ImageStore {
  readonly #folder: string;
  readonly #hashes = new Map<string, string>();

  constructor(folder: string) {
    this.#folder = folder;
  }

  /** @throws DATA_ROW_INVALID when another image has the same path */
  async add({ bytes, hash, name }: LookedAt): Promise<void> {
    const before = this.#hashes.get(name);
    if (before === hash) return;
    if (before !== undefined) {
      throw new Fr1Error('DATA_ROW_INVALID', `two different images are both called ${name}`, {
        hint: 'the lists name files of different folders by the same path; give each list a dataset stage of its own',
      });
    }
    this.#hashes.set(name, hash);
    const file = path.join(this.#folder, name);
    await mkdir(path.dirname(file), { recursive: true });
    await writeFile(file, bytes);
  }
}

/** Runs `work` over the items in order, a few at a time; the first failure ends it. */
export async function inParallel<T>(
  items: readonly T[],
  atOnce: number,
  work: (item: T, index: number) => Promise<void>,
) {
  let next = 0;
  const worker = async () => {
    while (next < items.length) {
      const index = next++;
      try {
        await work(items[index]!, index);
      } catch (error) {
        next = items.length;
        throw error;
      }
    }
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
}
