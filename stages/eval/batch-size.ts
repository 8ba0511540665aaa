/** How many items are answered at a time. */
import type { Provider } from '../../src/engine/session/runtime.ts';

/**
 * Items answered at a time where the options do not say. A GPU takes about as long for a token of one answer as for one of many;
 * on the CPU a larger batch gains little.
 */
export function defaultBatchSize(provider: Provider): number {
  return provider === 'cpu' ? 16 : 256;
}

/** Pixels of a batch's images that are held at a time, in bytes. */
export const MOST_IMAGE_BYTES = 2 ** 30;

/** Whether a batch is full before it has its number of items: large images would take the memory of the host. */
export function holdsEnough(images: readonly { readonly pixels: Float32Array }[]): boolean {
  return images.reduce((sum, { pixels }) => sum + pixels.byteLength, 0) >= MOST_IMAGE_BYTES;
}
