/** The settings outside a pipeline that change numbers, found without loading the runtime. */
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import type { Numerics } from '../plan/types.ts';

/** Raised when the engine computes something differently; results made before are then made again. */
export const NUMERICS_VERSION = '1';

/** `threads` defaults to what the runtime would take: all processors that this process may use. */
export function currentNumerics(device: string, threads: number = availableParallelism()): Numerics {
  const provider = device.split(':')[0]!;
  return { fr1: NUMERICS_VERSION, onnxruntime: packageVersion('onnxruntime-node'), provider, threads };
}

export function packageVersion(name: string): string {
  const manifest: unknown = createRequire(import.meta.url)(`${name}/package.json`);
  const version = typeof manifest === 'object' && manifest !== null && 'version' in manifest && manifest.version;
  if (typeof version !== 'string') throw new TypeError(`package ${name} states no version`);
  return version;
}
