/**
 * Copies images into an artifact, looking at each: its hash, and whether it is an image at all. Files of the user are
 * copied and not linked, so that editing one cannot change an artifact. EXIF orientation stays in the file and is
 * applied wherever an image is decoded.
 */
import { createHash } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { Fr1Error } from '../errors/fr1-error.ts';
import { keptName } from './image-roots.ts';
import type { ImageContent, SourceImage } from './source.ts';

export interface LookedAt {
  readonly bytes: Uint8Array;
  /** SHA-256 of the bytes, hex. */
  readonly hash: string;
  /** Path within the artifact. */
  readonly name: string;
}

/** What an image file format is called as a file ending. */
const ENDINGS: Readonly<Record<string, string>> = { jpeg: '.jpg', tiff: '.tif', heif: '.avif' };

/**
 * Reads an image and its header.
 *
 * @throws DATA_ROW_INVALID naming the row, when the file is missing or is no image
 */
export async function lookAt(image: Pick<SourceImage, 'id' | 'content' | 'at'>): Promise<LookedAt> {
  const { content, at } = image;
  try {
    const bytes = content.kind === 'file' ? await readFile(content.path) : await content.read();
    const { default: sharp } = await import('sharp');
    const { format } = await sharp(bytes).metadata();
    const ending = path.extname(content.name) === '' ? (ENDINGS[format] ?? `.${format}`) : '';
    return { bytes, hash: createHash('sha256').update(bytes).digest('hex'), name: `${keptName(content)}${ending}` };
  } catch (cause) {
    const { message, hint } =
      cause instanceof Fr1Error
        ? cause
        : { message: reasonOf(cause, content), hint: 'replace the file, or remove it or its row from the data' };
    throw new Fr1Error('DATA_ROW_INVALID', `image "${image.id}": ${message}`, { at, hint, cause });
  }
}

function reasonOf(cause: unknown, content: ImageContent): string {
  const place = content.kind === 'file' ? content.path : content.name;
  return `${place} cannot be read as an image: ${(cause as Error).message.split('\n')[0]}`;
}

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
