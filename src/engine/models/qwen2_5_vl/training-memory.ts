/** How much memory training takes at least: weights, gradients and moments. What a step computes comes on top. */
import { LORA_DEFAULT_RANK } from '../../adapters/choice.ts';
import { openModelFolder } from '../../adapters/model-folder.ts';
import { sizeOf } from '../../tensor.ts';
import type { Training } from './open-training-model.ts';

/** Per trained weight in float32: itself, its gradient, that of a micro-batch, two moments. */
export const BYTES_PER_TRAINED = 5 * 4;

/**
 * @returns bytes, and the number of weights that they are about
 * @throws CHECKPOINT_UNREADABLE and others for a folder that is no model
 */
export function trainingMemory(dir: string, training: Training): { readonly bytes: number; readonly trained: number } {
  const { base } = openModelFolder(dir);
  let bytes = 0;
  let trained = 0;
  for (const { name, shape, tower } of base.parameters) {
    const size = sizeOf(shape);
    const isWhole = training.kind === 'full' && training.towers[tower];
    const stored = base.locate(name).dtype === 'F32' ? 4 : 2;
    bytes += isWhole ? size * BYTES_PER_TRAINED : size * stored;
    if (isWhole) trained += size;
    const hasAdapter = training.kind === 'lora' ? training.towers[tower] : training.kind === 'continue';
    if (!hasAdapter || shape.length !== 2 || name.includes('embed')) continue;
    const rank = training.kind === 'lora' ? training.settings.rank : LORA_DEFAULT_RANK;
    const own = rank * (shape[0]! + shape[1]!);
    trained += own;
    bytes += own * BYTES_PER_TRAINED;
  }
  return { bytes, trained };
}
