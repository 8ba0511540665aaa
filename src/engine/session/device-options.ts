/** How a session is put on a device: the provider's name in the C API and its options. */
import { Fr1Error } from '../../errors/fr1-error.ts';
import { addressOf, checkStatus, type OrtApi, outPointer, type Pointer } from './ort-api.ts';
import { cudaPrecision } from './precision.ts';
import type { Provider } from './runtime.ts';

/** A provider that is not the CPU. */
export type DeviceProvider = Exclude<Provider, 'cpu'>;

/** What onnxruntime calls the memory of each provider. */
export const MEMORY_NAME: Readonly<Record<DeviceProvider, string>> = { webgpu: 'WebGPU_Buffer', cuda: 'Cuda' };

function cudaOptions(deviceIndex: number): Record<string, string> {
  return {
    device_id: String(deviceIndex),
    use_tf32: cudaPrecision() === 'float32' ? '0' : '1',
    arena_extend_strategy: 'kSameAsRequested',
  };
}

/** Whether the handle of a buffer is an address, so that parts of it can be used. */
export const HAS_ADDRESSES: Readonly<Record<DeviceProvider, boolean>> = { webgpu: false, cuda: true };

/**
 * Asks for a provider, for a session whose options these are.
 *
 * @throws DEVICE_UNAVAILABLE when the provider's libraries cannot be loaded or there is no such device
 */
export function appendProvider(api: OrtApi, native: Pointer, provider: DeviceProvider, deviceIndex: number): void {
  const what = `the device ${provider}:${deviceIndex}`;
  if (provider === 'webgpu') {
    if (deviceIndex !== 0) {
      throw new Fr1Error('DEVICE_UNAVAILABLE', `${what} cannot be chosen: WebGPU offers its default adapter only`, {
        hint: 'use --device webgpu, and hide the other GPUs from the process',
      });
    }
    const options = new KeyValues({});
    checkStatus(
      api.appendExecutionProvider(native, 'WebGPU', options.keys, options.values, options.length),
      'DEVICE_UNAVAILABLE',
      what,
    );
    return;
  }
  const options = new KeyValues(cudaOptions(deviceIndex));
  const cuda = outPointer((out) => api.createCudaProviderOptions(out), 'DEVICE_UNAVAILABLE', what);
  try {
    checkStatus(
      api.updateCudaProviderOptions(cuda, options.keys, options.values, options.length),
      'DEVICE_UNAVAILABLE',
      what,
    );
    checkStatus(api.appendCudaProvider(native, cuda), 'DEVICE_UNAVAILABLE', what);
  } finally {
    api.releaseCudaProviderOptions(cuda);
  }
}

/** Keys and values as arrays of zero-terminated strings. */
class KeyValues {
  readonly keys: BigUint64Array;
  readonly values: BigUint64Array;
  readonly length: number;
  /** The strings, held as long as their addresses are in use. */
  readonly held: readonly Uint8Array[];

  constructor(entries: Readonly<Record<string, string>>) {
    const bytes = (text: string) => new TextEncoder().encode(`${text}\0`);
    const keys = Object.keys(entries).map(bytes);
    const values = Object.values(entries).map(bytes);
    this.held = [...keys, ...values];
    this.length = keys.length;
    // NOTE: one element more than there are, because an empty array has no address.
    this.keys = BigUint64Array.from([...keys.map(addressOf), 0n]);
    this.values = BigUint64Array.from([...values.map(addressOf), 0n]);
  }
}
