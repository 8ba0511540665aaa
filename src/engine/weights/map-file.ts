/**
 * Byte ranges of files as memory, read-only and without reading them: the system loads pages when they are touched and
 * drops them when memory is short. Needs mmap, called through koffi; elsewhere there are no mappings.
 *
 * A mapping lasts as long as the process, so that no view of one can dangle. The file must not shrink meanwhile: touching
 * what it no longer has ends the process.
 */
import { closeSync, openSync } from 'node:fs';
import koffi from 'koffi';

const PROT_READ = 1;
const MAP_PRIVATE = 2;
/** MADV_DONTNEED: pages go, and come back from the file when they are touched again. */
const ADVICE_DROP = 4;
/** A multiple of every page size in use, as offsets of mappings must be. */
const ALIGNMENT = 65536;

export interface MappedRange {
  readonly buffer: ArrayBuffer;
  /** Where the range begins in the buffer. */
  readonly byteOffset: number;
  /** Gives the memory back; the contents are read from the file again when they are touched. */
  drop(): void;
}

interface System {
  mmap(address: null, length: number, protection: number, flags: number, file: number, offset: number): bigint;
  madvise(address: bigint, length: number, advice: number): number;
}

let system: System | null | undefined;

function loadSystem(): System | null {
  if (process.platform !== 'linux' && process.platform !== 'darwin') return null;
  try {
    const library = koffi.load(process.platform === 'linux' ? null : 'libSystem.dylib');
    return {
      mmap: library.func(
        'void *mmap(void *address, size_t length, int protection, int flags, int file, int64_t offset)',
      ),
      madvise: library.func('int madvise(void *address, size_t length, int advice)'),
    };
  } catch {
    // Without koffi or these functions weights are read into memory instead, which is slower but right.
    return null;
  }
}

/**
 * Maps a range of a file; null where mapping is not possible. The range must lie within the file.
 *
 * @param length in bytes, above 0
 */
export function mapFileRange(path: string, offset: number, length: number): MappedRange | null {
  system ??= loadSystem();
  if (system === null) return null;
  const { mmap, madvise } = system;
  const start = Math.floor(offset / ALIGNMENT) * ALIGNMENT;
  const bytes = offset - start + length;
  const file = openSync(path, 'r');
  let address: bigint;
  try {
    address = mmap(null, bytes, PROT_READ, MAP_PRIVATE, file, start);
  } finally {
    closeSync(file);
  }
  if (BigInt.asIntN(64, BigInt(address)) === -1n) return null;
  const drop = () => {
    madvise(address, bytes, ADVICE_DROP);
  };
  return { buffer: koffi.view(address, bytes), byteOffset: offset - start, drop };
}
