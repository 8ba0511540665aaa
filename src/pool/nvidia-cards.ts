/** Names of NVIDIA cards as their Linux driver tells them. */
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';

const DRIVER_FOLDER = '/proc/driver/nvidia/gpus';

/** @returns none without the driver, or elsewhere than on Linux */
export async function nvidiaCards(folder: string = DRIVER_FOLDER): Promise<string[]> {
  let slots: string[];
  try {
    slots = await readdir(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
  const names: string[] = [];
  for (const slot of slots.sort()) {
    const text = await readFile(path.join(folder, slot, 'information'), 'utf8');
    names.push(/^Model:\s*(.+)$/m.exec(text)?.[1]?.trim() ?? slot);
  }
  return names;
}
