/**
 * Trained weights in host memory: one flat buffer (those with weight decay first), beside equally laid out buffers for
 * gradients and moments, so that clipping, accumulation and the optimiser are a few long passes.
 *
 * On a device with memory of its own the weights live there from their first use on (`onDevice`), and those in host memory
 * are out of date until `pull`.
 */
import { Fr1Error } from '../../errors/fr1-error.ts';
import type { SessionSource } from '../program.ts';
import { type HostTensor, sizeOf } from '../tensor.ts';
import { DeviceParameters } from './device-parameters.ts';

export interface StoredParameter {
  readonly name: string;
  readonly shape: readonly number[];
  /** Whether weight decay applies. */
  readonly decay: boolean;
  /** Whether only batches with images reach it. @default false */
  readonly needsImages?: boolean;
}

/** Weights that lie side by side and are updated alike. */
export interface StoredGroup {
  readonly parameters: readonly StoredParameter[];
  /** Elements [from, to) of the flat buffer. */
  readonly from: number;
  readonly to: number;
  readonly decay: boolean;
  readonly needsImages: boolean;
}

/** Buffers as long as all trained weights together. */
export type FlatBuffer = Float32Array;

export class ParameterStore {
  readonly parameters: readonly StoredParameter[];
  /** All weights. */
  readonly flat: FlatBuffer;
  /** From one end of the flat buffer to the other; those with decay come first. */
  readonly groups: readonly StoredGroup[];
  readonly #offsets = new Map<string, number>();
  readonly #tensors = new Map<string, HostTensor<'float32'>>();
  #device: Promise<DeviceParameters> | undefined;

  constructor(parameters: readonly StoredParameter[]) {
    const ordered = [...parameters.filter(({ decay }) => decay), ...parameters.filter(({ decay }) => !decay)];
    this.parameters = parameters;
    this.flat = new Float32Array(ordered.reduce((sum, { shape }) => sum + sizeOf(shape), 0));
    let offset = 0;
    for (const { name, shape } of ordered) {
      this.#offsets.set(name, offset);
      this.#tensors.set(name, this.view(this.flat, name, shape));
      offset += sizeOf(shape);
    }
    this.groups = groupsOf(ordered);
  }

  /** The weight of that name, live. */
  find(name: string): HostTensor<'float32'> | undefined {
    return this.#tensors.get(name);
  }

  /** The weight of that name, live. @throws TENSOR_UNKNOWN */
  tensor(name: string): HostTensor<'float32'> {
    const tensor = this.#tensors.get(name);
    if (!tensor) throw new Fr1Error('TENSOR_UNKNOWN', `no weight named ${name} is trained`);
    return tensor;
  }

  /** The weights on the device of a source, copied there on first use; undefined where host memory is used as it is. */
  async onDevice(source: SessionSource): Promise<DeviceParameters | undefined> {
    const { memory } = source;
    if (memory === undefined) return undefined;
    this.#device ??= DeviceParameters.create(source, memory, this);
    return this.#device;
  }

  /** Copies the weights back from their device, if they are on one. */
  async pull(): Promise<void> {
    const device = await this.#device;
    await device?.download(device.weights, this.flat);
  }

  /** A buffer laid out like `flat`, zero-filled: gradients, moments. */
  buffer(): FlatBuffer {
    return new Float32Array(this.flat.length);
  }

  /** One weight's part of a flat buffer. @throws TENSOR_UNKNOWN for a weight that is not trained */
  view(buffer: FlatBuffer, name: string, shape = this.tensor(name).shape): HostTensor<'float32'> {
    const offset = this.#offsets.get(name);
    if (offset === undefined) throw new Fr1Error('TENSOR_UNKNOWN', `no weight named ${name} is trained`);
    return { dtype: 'float32', shape, data: buffer.subarray(offset, offset + sizeOf(shape)) };
  }
}

function groupsOf(ordered: readonly StoredParameter[]): StoredGroup[] {
  const groups: StoredGroup[] = [];
  let from = 0;
  for (const parameter of ordered) {
    const { decay, needsImages = false, shape } = parameter;
    const to = from + sizeOf(shape);
    const last = groups.at(-1);
    if (last && last.decay === decay && last.needsImages === needsImages) {
      groups[groups.length - 1] = { ...last, to, parameters: [...last.parameters, parameter] };
    } else groups.push({ parameters: [parameter], from, to, decay, needsImages });
    from = to;
  }
  return groups;
}
