/** The weights of a checkpoint that are not trained, as an execution wants them. */
import type { Checkpoint } from '../../weights/checkpoint.ts';
import { MappedWeights } from '../../weights/mapped-weights.ts';
import { type FrozenWeights, MemoryWeights } from '../../weights/model-weights.ts';
import type { Execution } from './execution.ts';

/** Widened to float32 in memory for whole graphs; mapped in the type of the file for layered ones. */
export function frozenWeights(checkpoint: Checkpoint, names: readonly string[], execution: Execution): FrozenWeights {
  if (execution === 'layered') return new MappedWeights(checkpoint, names);
  return new MemoryWeights(names.map((name) => [name, checkpoint.readFloat32(name)]));
}
