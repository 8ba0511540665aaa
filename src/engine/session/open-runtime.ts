/** Chooses the runtime. */
import { openCApiRuntime } from './c-api.ts';
import type { Runtime } from './runtime.ts';

export interface OpenRuntimeOptions {
  /** Threads of a CPU session. @default the CPUs that this process may use */
  readonly threads?: number | undefined;
}

export async function openRuntime(options: OpenRuntimeOptions = {}): Promise<Runtime> {
  return openCApiRuntime(options);
}
