/**
 * Gradients of all trained weights: accumulation, norm, clipping, in host memory or on a device. On the host they
 * are loops in parts, between which other work of the main thread has its turn; sums are taken in float64 and always in the
 * same order. Kernels of onnxruntime would be no faster (see docs/lab-log.md) and would sum in an order of their own.
 */
import { isTurnDue, takeTurn } from '../turn.ts';
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
    if (isOnHost(sum)) await accumulate(sum, part as FlatBuffer);
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
export async function accumulate(sum: FlatBuffer, part: FlatBuffer): Promise<void> {
  await inTurns(sum.length, (from, to) => {
    for (let i = from; i < to; i++) sum[i] = sum[i]! + part[i]!;
  });
}

export async function scale(buffer: FlatBuffer, factor: number): Promise<void> {
  await inTurns(buffer.length, (from, to) => {
    for (let i = from; i < to; i++) buffer[i] = buffer[i]! * factor;
  });
}

/** Euclidean norm of all gradients together. */
export async function globalNorm(gradients: FlatBuffer): Promise<number> {
  let sum = 0;
  await inTurns(gradients.length, (from, to) => {
    sum = addSquares(sum, gradients, from, to);
  });
  return Math.sqrt(sum);
}

function addSquares(start: number, gradients: FlatBuffer, from: number, to: number): number {
  let sum = start;
  for (let i = from; i < to; i++) sum += gradients[i]! * gradients[i]!;
  return sum;
}

/**
 * Scales gradients so that their global norm is at most `maxNorm`, as torch.nn.utils.clip_grad_norm_ does.
 *
 * @returns the norm before clipping
 */
export async function clipGlobalNorm(gradients: FlatBuffer, maxNorm: number): Promise<number> {
  const norm = await globalNorm(gradients);
  const factor = clipFactor(norm, maxNorm);
  if (factor < 1) await scale(gradients, factor);
  return norm;
}

/** Elements of a pass between two looks at the clock: less than a millisecond. */
const PART = 2 ** 19;

/** A long pass over a buffer in parts, between which others have their turn. */
async function inTurns(length: number, pass: (from: number, to: number) => void): Promise<void> {
  for (let from = 0; from < length; from += PART) {
    pass(from, Math.min(length, from + PART));
    if (isTurnDue()) await takeTurn();
  }
}

function clipFactor(norm: number, maxNorm: number): number {
  return Math.min(1, maxNorm / (norm + 1e-6));
}
