import { totalmem } from 'node:os';

/** Bytes that this process may use: the machine's memory or the limit set for the process, whichever is less. */
export function processMemory(): number {
  const limit = process.constrainedMemory?.() ?? 0;
  return limit > 0 ? Math.min(limit, totalmem()) : totalmem();
}
