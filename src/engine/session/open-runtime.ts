/** Chooses the runtime: the C API where it works, else onnxruntime-node in a worker thread. */
import { Fr1Error } from '../../errors/fr1-error.ts';
import { openCApiRuntime } from './c-api.ts';
import type { Runtime } from './runtime.ts';
import { openWorkerRuntime } from './worker-runtime.ts';

export interface OpenRuntimeOptions {
  /** Threads of a CPU session. @default the CPUs that this process may use */
  readonly threads?: number | undefined;
  /** @default the variable FR1_RUNTIME, else 'c-api' */
  readonly prefer?: Runtime['name'] | undefined;
  /** Told, once, why the C API cannot be used. @default nobody; the runtime keeps the reason in `fallbackReason` */
  readonly onFallback?: ((reason: Fr1Error) => void) | undefined;
}

/**
 * Opens the preferred runtime; where the C API is refused (no prebuilt koffi, another library version, a failed
 * self-test), the worker runtime with the reason in `fallbackReason`.
 *
 * @throws RUNTIME_UNAVAILABLE when neither works, or FR1_RUNTIME is not one of c-api and worker
 */
export async function openRuntime({ threads, prefer, onFallback }: OpenRuntimeOptions = {}): Promise<Runtime> {
  if ((prefer ?? runtimeOfEnvironment()) === 'worker') return openWorkerRuntime({ threads });
  try {
    return await openCApiRuntime({ threads });
  } catch (error) {
    if (!(error instanceof Fr1Error) || error.code !== 'RUNTIME_UNAVAILABLE') throw error;
    onFallback?.(error);
    return openWorkerRuntime({ threads, fallbackReason: error });
  }
}

function runtimeOfEnvironment(): Runtime['name'] {
  const name = process.env['FR1_RUNTIME'] || 'c-api';
  if (name !== 'c-api' && name !== 'worker') {
    throw new Fr1Error('RUNTIME_UNAVAILABLE', `FR1_RUNTIME is "${name}"`, { hint: 'use c-api or worker' });
  }
  return name;
}
