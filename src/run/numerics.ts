/** The settings outside a pipeline that change numbers, found without loading the runtime. */
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import type { Numerics } from '../plan/types.ts';
import type { Provider } from './stage-api.ts';

/** Raised when the engine computes something differently; results made before are then made again. */
export const NUMERICS_VERSION = '2';

/**
 * `devices` are of one kind. `threads` defaults to what the runtime would take: all processors that this process may use,
 * shared out among the devices where these are parts of the CPU. `precision` is that of matrix products, where it can be
 * chosen.
 */
export function currentNumerics(devices: readonly string[], threads?: number, precision?: string): Numerics {
  const kind = devices[0]!.split(':')[0]!;
  const provider = precision === undefined ? kind : `${kind} ${precision}`;
  const parts = kind === 'cpu' ? devices.length : 1;
  return {
    fr1: NUMERICS_VERSION,
    onnxruntime: packageVersion('onnxruntime-node'),
    provider,
    threads: threads ?? Math.max(1, Math.floor(availableParallelism() / parts)),
  };
}

/** Kind of device that stages compute on. */
export function providerOf({ provider }: Pick<Numerics, 'provider'>): Provider {
  return provider.split(' ')[0] as Provider;
}

/** Version of an installed package, also of one that does not let its package.json be imported. */
export function packageVersion(name: string): string {
  const folders = createRequire(import.meta.url).resolve.paths(name) ?? [];
  const path = folders.map((folder) => join(folder, name, 'package.json')).find((each) => existsSync(each));
  const manifest: unknown = path === undefined ? undefined : JSON.parse(readFileSync(path, 'utf8'));
  const version =
    typeof manifest === 'object' && manifest !== null && 'version' in manifest ? manifest.version : undefined;
  if (typeof version !== 'string') throw new TypeError(`package ${name} is not installed or states no version`);
  return version;
}
