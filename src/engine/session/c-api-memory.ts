/**
 * Memory of a device through the C API. A session of its own keeps the device's allocator alive and copies between host
 * and device; no other session needs to live as long as the tensors do.
 */
import { Fr1Error } from '../../errors/fr1-error.ts';
import {
  type DeviceBuffer,
  type DeviceTensor,
  type DType,
  type HostTensor,
  int32,
  type TensorData,
} from '../tensor.ts';
import { byteLengthOf } from './check-values.ts';
import { type DeviceProvider, HAS_ADDRESSES, MEMORY_NAME } from './device-options.ts';
import { checkStatus, type OrtApi, outPointer, type Pointer, takeMessage } from './ort-api.ts';
import type { DeviceMemory, Session } from './runtime.ts';

const DEVICE_ALLOCATOR = 0;
const MEMORY_TYPE_DEFAULT = 0;

/** Description of a device's memory; it is kept for the life of the process. */
export function deviceMemoryInfo(api: OrtApi, provider: DeviceProvider, deviceIndex: number): Pointer {
  return outPointer(
    (out) => api.createMemoryInfo(MEMORY_NAME[provider], DEVICE_ALLOCATOR, deviceIndex, MEMORY_TYPE_DEFAULT, out),
    'DEVICE_UNAVAILABLE',
    `memory of ${provider}:${deviceIndex}`,
  );
}

export class CApiDeviceMemory implements DeviceMemory {
  readonly #api: OrtApi;
  readonly #device: string;
  readonly #copier: Session;
  readonly #allocator: Pointer;
  readonly #buffers = new Set<DeviceBuffer>();
  readonly view: DeviceMemory['view'];

  /** @param copier a session of the device with y = x over int32 [n] */
  constructor(
    api: OrtApi,
    provider: DeviceProvider,
    deviceIndex: number,
    copier: Session & { readonly handle: Pointer },
    memoryInfo: Pointer,
  ) {
    this.#api = api;
    const device = `${provider}:${deviceIndex}`;
    this.#device = device;
    this.view = HAS_ADDRESSES[provider] ? viewOf : undefined;
    this.#copier = copier;
    this.#allocator = outPointer(
      (out) => api.createAllocator(copier.handle, memoryInfo, out),
      'DEVICE_UNAVAILABLE',
      device,
    );
  }

  allocate<D extends DType>(dtype: D, shape: readonly number[]): DeviceTensor<D> {
    return { dtype, shape, buffer: this.#buffer(byteLengthOf(dtype, shape)) };
  }

  async upload<D extends DType>(from: HostTensor<D>, to = this.allocate(from.dtype, from.shape)) {
    const words = wordsOf(from.data);
    const shape = [words.length];
    if (words.length > 0) await this.#copier.run({ x: int32(shape, words) }, { y: { ...to, dtype: 'int32', shape } });
    return to;
  }

  async download<D extends DType>(from: DeviceTensor<D>, to: HostTensor<D>): Promise<void> {
    const words = new Int32Array(to.data.buffer, to.data.byteOffset, to.data.byteLength / 4);
    const shape = [words.length];
    if (words.length > 0) await this.#copier.run({ x: { ...from, dtype: 'int32', shape } }, { y: int32(shape, words) });
  }

  /** Frees every tensor. */
  async release(): Promise<void> {
    for (const buffer of this.#buffers) buffer.release();
    this.#api.releaseAllocator(this.#allocator);
    await this.#copier.release();
  }

  /** Whole words, so that elements of any type are copied as words. */
  #buffer(bytes: number): DeviceBuffer {
    const byteLength = Math.max(16, Math.ceil(bytes / 4) * 4);
    const out = new BigUint64Array(1);
    const message = takeMessage(this.#api.allocatorAlloc(this.#allocator, byteLength, out));
    if (message !== undefined || out[0] === 0n) {
      throw new Fr1Error(
        'DEVICE_MEMORY',
        `${this.#device} has no room for another ${(byteLength / 2 ** 20).toFixed(1)} MiB: ${message ?? 'no memory'}`,
        { hint: 'use a smaller batch or model, or another device' },
      );
    }
    const handle = out[0]!;
    let isFree = false;
    const buffer: DeviceBuffer = {
      byteLength,
      handle,
      release: () => {
        if (isFree) return;
        isFree = true;
        this.#buffers.delete(buffer);
        checkStatus(this.#api.allocatorFree(this.#allocator, handle), 'RUNTIME_RUN_FAILED', this.#device);
      },
    };
    this.#buffers.add(buffer);
    return buffer;
  }
}

/** A part of a tensor whose handle is an address; it is released with the whole. */
function viewOf<D extends DType>(tensor: DeviceTensor<D>, from: number, shape: readonly number[]): DeviceTensor<D> {
  const handle = tensor.buffer.handle + BigInt(byteLengthOf(tensor.dtype, [from]));
  return {
    dtype: tensor.dtype,
    shape,
    buffer: { handle, byteLength: byteLengthOf(tensor.dtype, shape), release() {} },
  };
}

/** The bytes of an array as words of 4 bytes, padded with zeros; a copy only where it must be one. */
function wordsOf(data: TensorData): Int32Array {
  const { buffer, byteOffset, byteLength } = data;
  if (byteOffset % 4 === 0 && byteLength % 4 === 0) return new Int32Array(buffer, byteOffset, byteLength / 4);
  const words = new Int32Array(Math.ceil(byteLength / 4));
  new Uint8Array(words.buffer).set(new Uint8Array(buffer, byteOffset, byteLength));
  return words;
}
