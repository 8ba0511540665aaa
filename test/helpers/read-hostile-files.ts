/** Reads hostile files as the engine does and says what is wrong with its answer; shared by the short and the long test. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { loadImage, MAX_FULL_SIZE_PIXELS } from '../../src/engine/image/load-image.ts';
import { openSafetensors } from '../../src/engine/weights/safetensors.ts';
import { Fr1Error } from '../../src/errors/fr1-error.ts';
import { hostileImage, hostileSafetensors, MemoryWatch } from './hostile-files.ts';

export interface HostileReport {
  readonly opened: number;
  readonly refused: number;
  /** What is neither a clear error nor a correct result. */
  readonly wrong: readonly string[];
  readonly growthBytes: number;
}

const REFUSALS = new Set(['SAFETENSORS_INVALID', 'SAFETENSORS_TRUNCATED', 'DTYPE_MISMATCH', 'IMAGE_UNREADABLE']);

/** The file with that number: true when it was read. @throws Fr1Error for one that is refused, anything else is wrong */
type Reading = (number: number) => Promise<void>;

async function readAll(count: number, read: Reading): Promise<HostileReport> {
  const memory = new MemoryWatch();
  const timer = setInterval(() => memory.sample(), 5);
  const wrong: string[] = [];
  let opened = 0;
  let refused = 0;
  for (let number = 0; number < count; number++) {
    try {
      await read(number);
      opened++;
    } catch (error) {
      if (error instanceof Fr1Error && REFUSALS.has(error.code)) refused++;
      else wrong.push(`file ${number}: ${error instanceof Error ? (error.stack ?? error.message) : error}`);
    }
    memory.sample();
  }
  clearInterval(timer);
  return { opened, refused, wrong, growthBytes: memory.growthBytes };
}

/** @param folder for one file at a time */
export function readHostileSafetensors(count: number, folder: string): Promise<HostileReport> {
  const path = join(folder, 'hostile.safetensors');
  return readAll(count, async (number) => {
    const bytes = hostileSafetensors(number);
    writeFileSync(path, bytes);
    const file = openSafetensors(path);
    let covered = 0;
    for (const name of file.names) {
      const { offset, byteLength } = file.info(name);
      if (offset < 8 || offset + byteLength > bytes.length) throw new Error(`"${name}" lies outside the file`);
      covered += byteLength;
      const { data } = file.read(name);
      const got = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
      if (!got.equals(bytes.subarray(offset, offset + byteLength))) throw new Error(`"${name}" has other bytes`);
    }
    const headerBytes = Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
    if (8 + headerBytes + covered !== bytes.length) throw new Error('tensors overlap or leave gaps');
  });
}

export function readHostileImages(count: number): Promise<HostileReport> {
  return readAll(count, async (number) => {
    const { width, height, data } = await loadImage(await hostileImage(number));
    if (width < 1 || height < 1 || data.length !== width * height * 3 || width * height > MAX_FULL_SIZE_PIXELS) {
      throw new Error(`${width} x ${height} pixels with ${data.length} values`);
    }
  });
}
