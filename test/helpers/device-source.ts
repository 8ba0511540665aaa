/** The devices that tests of the engine run on: the CPU, and WebGPU where there is an adapter (a GPU, or Mesa's lavapipe). */
import type { SessionSource } from '../../src/engine/program.ts';
import type { Runtime } from '../../src/engine/session/runtime.ts';
import { bareSource } from './session-source.ts';

/**
 * A source of WebGPU sessions in which an operator that only the CPU could compute is an error.
 *
 * @returns undefined where no adapter is found, after saying so
 */
export async function webGpuSource(runtime: Runtime): Promise<SessionSource | undefined> {
  try {
    const bare = bareSource(runtime, 'webgpu', await runtime.deviceMemory('webgpu'));
    return {
      ...bare,
      session: (key, create) =>
        bare.session(key, () => {
          const { model, options } = create();
          return { model, options: { ...options, config: { 'session.disable_cpu_ep_fallback': '1' } } };
        }),
    };
  } catch (error) {
    process.stderr.write(`WebGPU is not tested here: ${(error as Error).message.split('\n')[0]}\n`);
    return undefined;
  }
}
