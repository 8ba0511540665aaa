/** Passes over flat gradients: accumulation, norm, clipping. Sums are taken in float64 and always in the same order. */
import type { FlatBuffer } from './parameter-store.ts';

/** sum += part */
export function accumulate(sum: FlatBuffer, part: FlatBuffer): void {
  for (let i = 0; i < sum.length; i++) sum[i] = sum[i]! + part[i]!;
}

export function scale(buffer: FlatBuffer, factor: number): void {
  for (let i = 0; i < buffer.length; i++) buffer[i] = buffer[i]! * factor;
}

/** Euclidean norm of all gradients together. */
export function globalNorm(gradients: FlatBuffer): number {
  let sum = 0;
  for (let i = 0; i < gradients.length; i++) sum += gradients[i]! * gradients[i]!;
  return Math.sqrt(sum);
}

/**
 * Scales gradients so that their global norm is at most `maxNorm`, as torch.nn.utils.clip_grad_norm_ does.
 *
 * @returns the norm before clipping
 */
export function clipGlobalNorm(gradients: FlatBuffer, maxNorm: number): number {
  const norm = globalNorm(gradients);
  const factor = maxNorm / (norm + 1e-6);
  if (factor < 1) scale(gradients, factor);
  return norm;
}
