/**
 * Model weights in host memory. Trainable weights lie in one flat buffer (those with weight decay first), beside equally
 * laid out buffers for gradients and moments, so that clipping, accumulation and the optimiser are a few long passes.
 */
import { Fr1Error } from '../../errors/fr1-error.ts';
import { type HostTensor, sizeOf } from '../tensor.ts';

export interface StoredParameter {
  readonly name: string;
  readonly shape: readonly number[];
  readonly trainable: boolean;
  /** Whether weight decay applies. */
  readonly decay: boolean;
}

/** Buffers as long as all trainable weights together. */
export type FlatBuffer = Float32Array;

export class ParameterStore {
  readonly parameters: readonly StoredParameter[];
  /** All trainable weights. */
  readonly flat: FlatBuffer;
  /** Trainable weights with decay come first: elements [0, decayed). */
  readonly decayed: number;
  readonly #offsets = new Map<string, number>();
  readonly #tensors: Record<string, HostTensor<'float32'>> = {};

  constructor(parameters: readonly StoredParameter[]) {
    const trainable = parameters.filter((parameter) => parameter.trainable);
    const ordered = [...trainable.filter(({ decay }) => decay), ...trainable.filter(({ decay }) => !decay)];
    this.parameters = parameters;
    this.flat = new Float32Array(ordered.reduce((sum, { shape }) => sum + sizeOf(shape), 0));
    let offset = 0;
    let decayed = 0;
    for (const { name, shape, decay } of ordered) {
      this.#offsets.set(name, offset);
      this.#tensors[name] = this.view(this.flat, name, shape);
      offset += sizeOf(shape);
      if (decay) decayed = offset;
    }
    this.decayed = decayed;
    for (const { name, shape, trainable: moves } of parameters) {
      if (!moves) this.#tensors[name] = { dtype: 'float32', shape, data: new Float32Array(sizeOf(shape)) };
    }
  }

  /** All weights by name; the arrays are live. */
  get tensors(): Readonly<Record<string, HostTensor<'float32'>>> {
    return this.#tensors;
  }

  /** The weight of that name. @throws TENSOR_UNKNOWN */
  tensor(name: string): HostTensor<'float32'> {
    const tensor = this.#tensors[name];
    if (!tensor) throw new Fr1Error('TENSOR_UNKNOWN', `the model has no weight named ${name}`);
    return tensor;
  }

  get trainable(): readonly StoredParameter[] {
    return this.parameters.filter((parameter) => parameter.trainable);
  }

  /** A buffer laid out like `flat`, zero-filled: gradients, moments. */
  buffer(): FlatBuffer {
    return new Float32Array(this.flat.length);
  }

  /** One weight's part of a flat buffer. @throws TENSOR_UNKNOWN for a weight that is not trainable */
  view(buffer: FlatBuffer, name: string, shape = this.tensor(name).shape): HostTensor<'float32'> {
    const offset = this.#offsets.get(name);
    if (offset === undefined) throw new Fr1Error('TENSOR_UNKNOWN', `the weight ${name} is not trained`);
    return { dtype: 'float32', shape, data: buffer.subarray(offset, offset + sizeOf(shape)) };
  }
}
