/**
 * Gradients of all trained weights: accumulation, norm, clipping, in host memory or on a device. On the host, sums are
 * taken in float64 and always in the same order.
 */
import type { DeviceParameters, DeviceVector } from './device-parameters.ts';
import type { FlatBuffer, ParameterStore } from './parameter-store.ts';

/** Gradients on a device, to be multiplied by `scale` when they are used. */
export interface DeviceGradients {
  readonly parts: DeviceVector;
  readonly scale: number;
}

export type GradientBuffer = FlatBuffer | DeviceGradients;

export function isOnHost(gradients: GradientBuffer): gradients is FlatBuffer {
  return gradients instanceof Float32Array;
}

/** The gradients of an update: the sum over its micro-batches. */
export class GradientSum {
  readonly #store: ParameterStore;
  readonly #device: DeviceParameters | undefined;
  /** The sum, the part that is being computed, and on a device the next sum. */
  readonly #buffers: GradientBuffer[] = [];
  #parts = 0;

  /** @param device where the weights are, if not in host memory */
  constructor(store: ParameterStore, device?: DeviceParameters) {
    this.#store = store;
    this.#device = device;
  }

  /** What has been added; there must be something. */
  get value(): GradientBuffer {
    return this.#buffers[0]!;
  }

  /** Starts a new sum. */
  clear(): void {
    this.#parts = 0;
  }

  /** Adds what `compute` writes. */
  async add<T>(compute: (into: GradientBuffer) => Promise<T>): Promise<T> {
    const isFirst = this.#parts++ === 0;
    const part = await this.#buffer(isFirst ? 0 : 1);
    if (isFirst && !isOnHost(part)) this.#buffers[0] = { ...part, scale: 1 };
    const result = await compute(part);
    if (isFirst) return result;
    const sum = this.value;
    if (isOnHost(sum)) accumulate(sum, part as FlatBuffer);
    else {
      const next = (await this.#buffer(2)) as DeviceGradients;
      await this.#device!.add(sum.parts, (part as DeviceGradients).parts, next.parts);
      this.#buffers[0] = next;
      this.#buffers[2] = sum;
    }
    return result;
  }

  /**
   * Scales the sum so that its global norm is at most `maxNorm`.
   *
   * @returns the norm before clipping
   */
  async clip(maxNorm: number): Promise<number> {
    const sum = this.value;
    if (isOnHost(sum)) return clipGlobalNorm(sum, maxNorm);
    const norm = await this.#device!.norm(sum.parts);
    this.#buffers[0] = { ...sum, scale: clipFactor(norm, maxNorm) };
    return norm;
  }

  /** Zeros at first: a device's padding and gaps are never written. */
  async #buffer(index: number): Promise<GradientBuffer> {
    this.#buffers[index] ??=
      this.#device === undefined ? this.#store.buffer() : { parts: await this.#device.zeros(), scale: 1 };
    return this.#buffers[index];
  }
}

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
  const factor = clipFactor(norm, maxNorm);
  if (factor < 1) scale(gradients, factor);
  return norm;
}

function clipFactor(norm: number, maxNorm: number): number {
  return Math.min(1, maxNorm / (norm + 1e-6));
}
