/**
 * A model folder as stages pass it on: a checkpoint, or an adapter with its base in `base/`. In the latter the files of the
 * base are hard links where the file system allows it, so that an adapter of a large model is a small folder.
 */
import { constants, existsSync } from 'node:fs';
import { copyFile, link, mkdir, realpath } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { Fr1Error } from '../../errors/fr1-error.ts';
import { type Checkpoint, checkpointFiles, openCheckpoint } from '../weights/checkpoint.ts';
import type { Adapter } from './lora.ts';
import { ADAPTER_CONFIG, readAdapter, type WriteAdapterOptions, writeAdapter } from './peft.ts';

/** Folder of the base inside the folder of its adapter. */
export const BASE_FOLDER = 'base';

export interface ModelFolder {
  /** The model, without the adapter. */
  readonly base: Checkpoint;
  readonly adapter: Adapter | null;
}

/**
 * Opens a model folder; no weight of the base is read.
 *
 * @param adapterDir an adapter for a folder that holds a checkpoint
 * @throws CHECKPOINT_UNREADABLE, CHECKPOINT_MISMATCH, MODEL_CONFIG_INVALID, SAFETENSORS_INVALID, SAFETENSORS_TRUNCATED
 * @throws ADAPTER_UNREADABLE also for an adapter whose base is not there, ADAPTER_MISMATCH
 */
export function openModelFolder(dir: string, adapterDir?: string): ModelFolder {
  const folder = resolve(dir);
  if (adapterDir !== undefined) {
    if (existsSync(join(folder, ADAPTER_CONFIG))) {
      throw new Fr1Error('ADAPTER_UNREADABLE', `${folder} has an adapter already, so it takes no other`, {
        hint: 'merge its own first with a stage `uses: export`, or name its base',
      });
    }
    const base = openCheckpoint(folder);
    return { base, adapter: readAdapter(resolve(adapterDir), base.parameters) };
  }
  if (!existsSync(join(folder, ADAPTER_CONFIG))) return { base: openCheckpoint(folder), adapter: null };
  const baseDir = join(folder, BASE_FOLDER);
  if (!existsSync(baseDir)) {
    throw new Fr1Error('ADAPTER_UNREADABLE', `${folder} holds an adapter, but not its base in ${BASE_FOLDER}/`, {
      hint: 'a stage `uses: export` with `model: BASE`, `adapter: FOLDER` and `merge: false` joins the two',
    });
  }
  const base = openCheckpoint(baseDir);
  return { base, adapter: readAdapter(folder, base.parameters) };
}

/** Writes an adapter and its base as one folder. @throws CHECKPOINT_WRITE_FAILED */
export async function saveAdapted(
  dir: string,
  base: Checkpoint,
  adapter: Adapter,
  options: Pick<WriteAdapterOptions, 'dtype' | 'layout'>,
): Promise<void> {
  const folder = resolve(dir);
  const target = join(folder, BASE_FOLDER);
  try {
    await mkdir(target, { recursive: true });
    for (const file of checkpointFiles(base)) await linkOrCopy(file, join(target, basename(file)));
  } catch (cause) {
    throw new Fr1Error('CHECKPOINT_WRITE_FAILED', `${target} cannot be written: ${(cause as Error).message}`, {
      cause,
    });
  }
  await writeAdapter(folder, adapter, { ...options, base: base.parameters, baseName: BASE_FOLDER });
}

/** A second name for a file; a copy where the two folders lie on different file systems or links are not allowed. */
async function linkOrCopy(from: string, to: string): Promise<void> {
  const source = await realpath(from);
  try {
    await link(source, to);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code !== 'EXDEV' && code !== 'EPERM' && code !== 'EMLINK' && code !== 'ENOTSUP') throw cause;
    await copyFile(source, to, constants.COPYFILE_FICLONE);
  }
}
