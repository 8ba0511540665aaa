/** The weights of a checkpoint that are not trained, as an execution wants them. */
import type { Provider } from '../../session/runtime.ts';
import type { Checkpoint } from '../../weights/checkpoint.ts';
import { MappedWeights } from '../../weights/mapped-weights.ts';
import { type FrozenWeights, MemoryWeights, WidenedWeights } from '../../weights/model-weights.ts';
import type { Execution } from './execution.ts';

/**
 * Widened to float32 in memory for small models; those of large ones stay in their files, in their type. WebGPU has no
 * bfloat16, and float16 not on every adapter: onnxruntime would widen them on the CPU, in every run.
 */
export function frozenWeights(
  checkpoint: Checkpoint,
  names: readonly string[],
  execution: Execution,
  provider: Provider,
): FrozenWeights {
  if (execution === 'whole') return new MemoryWeights(names.map((name) => [name, checkpoint.readFloat32(name)]));
  const mapped = new MappedWeights(checkpoint, names);
  return provider === 'webgpu' ? new WidenedWeights(mapped) : mapped;
}
