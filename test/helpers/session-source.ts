/** A session source without a pool: every program gets a session of its own. */
import type { SessionSource } from '../../src/engine/program.ts';
import type { DeviceMemory, Provider, Runtime } from '../../src/engine/session/runtime.ts';

export function bareSource(runtime: Runtime, provider: Provider = 'cpu', memory?: DeviceMemory): SessionSource {
  return {
    provider,
    memory,
    session: (_key, create) => {
      const { model, options } = create();
      return runtime.createSession(model, options);
    },
  };
}
