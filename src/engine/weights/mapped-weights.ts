/**
 * Frozen weights left where they are: views of the mapped weight files, in the element type in which they are stored.
 * Nothing is read until it is used, and memory that they take can be reclaimed by the system at any time.
 */
import type { HostTensor } from '../tensor.ts';
import type { Checkpoint } from './checkpoint.ts';
import type { FloatDType } from './convert.ts';
import { type MappedRange, mapFileRange } from './map-file.ts';
import type { FrozenWeights } from './model-weights.ts';
import type { SafetensorsDType } from './safetensors.ts';

/** Element type in memory of weights that are used as they are stored. */
export const HOST_TYPE: Partial<Record<SafetensorsDType, FloatDType>> = {
  F32: 'float32',
  F16: 'float16',
  BF16: 'bfloat16',
};

export class MappedWeights implements FrozenWeights {
  readonly names: readonly string[];
  readonly #checkpoint: Checkpoint;
  readonly #known: ReadonlySet<string>;
  readonly #tensors = new Map<string, HostTensor<FloatDType>>();
  readonly #ranges: MappedRange[] = [];

  /** @param names weights of the checkpoint; those of the others are never touched */
  constructor(checkpoint: Checkpoint, names: readonly string[]) {
    this.#checkpoint = checkpoint;
    this.names = names;
    this.#known = new Set(names);
  }

  find(name: string): HostTensor<FloatDType> | undefined {
    if (!this.#known.has(name)) return undefined;
    let tensor = this.#tensors.get(name);
    if (!tensor) {
      tensor = this.#map(name);
      this.#tensors.set(name, tensor);
    }
    return tensor;
  }

  dtypeOf(name: string): FloatDType | undefined {
    return this.#known.has(name) ? HOST_TYPE[this.#checkpoint.locate(name).dtype] : undefined;
  }

  /** Gives the memory back that the weights take now; they stay usable. */
  drop(): void {
    for (const range of this.#ranges) range.drop();
  }

  /** A view of the file, or a copy where it cannot be mapped or its place is not aligned. */
  #map(name: string): HostTensor<FloatDType> {
    const { file, dtype, shape, offset, byteLength } = this.#checkpoint.locate(name);
    const hostType = HOST_TYPE[dtype]!;
    const isAligned = offset % (hostType === 'float32' ? 4 : 2) === 0;
    const range = isAligned && byteLength > 0 ? mapFileRange(file, offset, byteLength) : null;
    if (!range) return this.#checkpoint.read(name) as HostTensor<FloatDType>;
    this.#ranges.push(range);
    const data =
      hostType === 'float32'
        ? new Float32Array(range.buffer, range.byteOffset, byteLength / 4)
        : new Uint16Array(range.buffer, range.byteOffset, byteLength / 2);
    return { dtype: hostType, shape, data };
  }
}
