/** Whether a model runs as one graph or layer by layer. */
import { sizeOf } from '../../tensor.ts';
import type { Qwen25VLConfig } from './config.ts';
import { parameterSpecs } from './parameters.ts';

/**
 * `whole`: one graph over all weights in float32; the fastest. `layered`: a layer at a time over weights in the type in
 * which they are stored, activations kept at the borders only; training computes every layer twice.
 */
export type Execution = 'whole' | 'layered';

/** From this many weights on, float32 copies and the activations of all layers are too much for most machines. */
const LAYERED_FROM = 1e9;

/** A matter of the model alone, so that the same pipeline computes the same numbers on every machine. */
export function defaultExecution(config: Qwen25VLConfig): Execution {
  return weightCount(config) >= LAYERED_FROM ? 'layered' : 'whole';
}

export function weightCount(config: Qwen25VLConfig): number {
  return parameterSpecs(config).reduce((sum, { shape }) => sum + sizeOf(shape), 0);
}
