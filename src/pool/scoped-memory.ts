/** Device memory on loan: whatever a lease has allocated and not released is freed when the lease ends. */
import type { DeviceMemory } from '../engine/session/runtime.ts';
import type { DeviceBuffer, DeviceTensor, DType, HostTensor } from '../engine/tensor.ts';

export class ScopedMemory implements DeviceMemory {
  readonly #memory: DeviceMemory;
  readonly #buffers = new Set<DeviceBuffer>();
  readonly view: DeviceMemory['view'];

  constructor(memory: DeviceMemory) {
    this.#memory = memory;
    this.view = memory.view;
  }

  allocate<D extends DType>(dtype: D, shape: readonly number[]): DeviceTensor<D> {
    const tensor = this.#memory.allocate(dtype, shape);
    const { byteLength, handle } = tensor.buffer;
    const buffer: DeviceBuffer = {
      byteLength,
      handle,
      release: () => {
        this.#buffers.delete(buffer);
        tensor.buffer.release();
      },
    };
    this.#buffers.add(buffer);
    return { ...tensor, buffer };
  }

  upload<D extends DType>(from: HostTensor<D>, to = this.allocate(from.dtype, from.shape)): Promise<DeviceTensor<D>> {
    return this.#memory.upload(from, to);
  }

  download<D extends DType>(from: DeviceTensor<D>, to: HostTensor<D>): Promise<void> {
    return this.#memory.download(from, to);
  }

  /** Frees everything. */
  release(): void {
    for (const buffer of this.#buffers) buffer.release();
  }
}
