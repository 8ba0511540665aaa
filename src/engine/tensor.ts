/**
 * Tensors on the host side: a typed array with a shape. Knows no graph and no session.
 */

/** Element types that the engine stores or computes with. */
export type DType = 'float32' | 'float16' | 'bfloat16' | 'int32' | 'int64' | 'bool';

/** The typed array that holds the elements of each dtype; float16 and bfloat16 are kept as raw bits. */
export interface DataOf {
  float32: Float32Array;
  float16: Uint16Array;
  bfloat16: Uint16Array;
  int32: Int32Array;
  int64: BigInt64Array;
  bool: Uint8Array;
}

export type TensorData = DataOf[DType];

/** A dense row-major tensor in host memory. `data` may be a view into a larger buffer. */
export interface HostTensor<D extends DType = DType> {
  readonly dtype: D;
  readonly shape: readonly number[];
  readonly data: DataOf[D];
}

/** Memory of a device, e.g. a WebGPU buffer or a range of CUDA memory. */
export interface DeviceBuffer {
  readonly byteLength: number;
  /** What the runtime knows it by. */
  readonly handle: bigint;
  /** Frees the memory; nothing may use it any more. Safe to call twice. */
  release(): void;
}

/** A dense row-major tensor in the memory of a device; its elements are read by `DeviceMemory.download`. */
export interface DeviceTensor<D extends DType = DType> {
  readonly dtype: D;
  readonly shape: readonly number[];
  readonly buffer: DeviceBuffer;
}

export type Tensor<D extends DType = DType> = HostTensor<D> | DeviceTensor<D>;

export function isHostTensor<D extends DType>(tensor: Tensor<D>): tensor is HostTensor<D> {
  return 'data' in tensor;
}

export const BYTES_PER_ELEMENT = {
  float32: 4,
  float16: 2,
  bfloat16: 2,
  int32: 4,
  int64: 8,
  bool: 1,
} as const satisfies Record<DType, number>;

/** Number of elements of a shape; 1 for a scalar. */
export function sizeOf(shape: readonly number[]): number {
  let size = 1;
  for (const dim of shape) size *= dim;
  return size;
}

/** A float32 tensor over the given data (not copied), or zeros. */
export function float32(
  shape: readonly number[],
  data: Float32Array = new Float32Array(sizeOf(shape)),
): HostTensor<'float32'> {
  return { dtype: 'float32', shape, data };
}

/** An int32 tensor over the given data (not copied), or zeros. */
export function int32(shape: readonly number[], data: Int32Array = new Int32Array(sizeOf(shape))): HostTensor<'int32'> {
  return { dtype: 'int32', shape, data };
}

/** An int64 tensor from plain integers. */
export function int64(shape: readonly number[], values: ArrayLike<number>): HostTensor<'int64'> {
  const data = new BigInt64Array(values.length);
  // NOTE: writing the low and high words is some 25 times faster than BigInt() per element.
  const words = new Int32Array(data.buffer);
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!;
    words[2 * i] = value;
    words[2 * i + 1] = value < 0 ? -1 : 0;
  }
  return { dtype: 'int64', shape, data };
}

/** Zero-filled elements of a dtype. */
export function emptyData(dtype: DType, size: number): TensorData {
  switch (dtype) {
    case 'float32':
      return new Float32Array(size);
    case 'float16':
    case 'bfloat16':
      return new Uint16Array(size);
    case 'int32':
      return new Int32Array(size);
    case 'int64':
      return new BigInt64Array(size);
    case 'bool':
      return new Uint8Array(size);
    default:
      return dtype satisfies never;
  }
}
