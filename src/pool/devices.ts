/** Which devices can be used, and what to do where one cannot. */
import { cudaPrecision } from '../engine/session/precision.ts';
import type { DeviceMemory, Provider, Runtime } from '../engine/session/runtime.ts';
import { Fr1Error } from '../errors/fr1-error.ts';
import { didYouMean } from '../errors/nearest.ts';

export interface ParsedDevice {
  readonly provider: Provider;
  readonly index: number;
}

/**
 * The CPU as a whole, or a part of it: `cpu:0`, `cpu:1` and so on are lent separately and share the processors, so that
 * stages can compute side by side.
 */
export function isCpu(id: string): boolean {
  return /^cpu(:\d+)?$/.test(id);
}

/** Ids between commas, without repeats; all must be of one kind, since the kind decides the numbers that come out. */
export function deviceIds(list: string): readonly string[] {
  const ids = [...new Set(list.split(',').map((id) => id.trim()))];
  const kinds = new Set(ids.map((id) => id.split(':')[0]));
  if (kinds.size > 1) {
    throw new Fr1Error('DEVICE_UNAVAILABLE', `a run cannot mix devices of different kinds: ${ids.join(', ')}`, {
      hint: 'results depend on the kind of device; name several of one kind, e.g. cuda:0,cuda:1',
    });
  }
  return ids;
}

/**
 * `cpu`, `webgpu`, `cuda` or `cuda:1` in parts.
 *
 * @throws DEVICE_UNAVAILABLE for anything else
 */
export function parseDevice(id: string): ParsedDevice {
  const match = /^(?:(webgpu)|(cpu|cuda)(?::(\d+))?)$/.exec(id);
  if (match === null) {
    throw new Fr1Error('DEVICE_UNAVAILABLE', `there is no device "${id}"`, {
      hint: /^webgpu:/.test(id)
        ? 'WebGPU offers its default adapter only: use webgpu'
        : didYouMean(id, ['cpu', 'webgpu', 'cuda', 'cuda:0'], 'devices'),
    });
  }
  return { provider: (match[1] ?? match[2]) as Provider, index: Number(match[3] ?? 0) };
}

/** Precision of matrix products on a device, where it can be chosen. @throws DEVICE_UNAVAILABLE for an unknown one */
export function precisionOf(id: string): string | undefined {
  return parseDevice(id).provider === 'cuda' ? cudaPrecision() : undefined;
}

/**
 * Memory of a device; undefined for the CPU, whose sessions use host memory.
 *
 * @throws DEVICE_UNAVAILABLE that says what is missing and how to get it, or that the precision asked for is none
 */
export async function openDeviceMemory(runtime: Runtime, id: string): Promise<DeviceMemory | undefined> {
  const { provider, index } = parseDevice(id);
  if (provider === 'cpu') return undefined;
  precisionOf(id);
  try {
    return await runtime.deviceMemory(provider, index);
  } catch (error) {
    if (!(error instanceof Fr1Error)) throw error;
    const [first] = error.message.split('\n');
    throw new Fr1Error('DEVICE_UNAVAILABLE', `the device "${id}" cannot be used: ${lastCause(first!)}`, {
      cause: error,
      hint: runtime.name === 'worker' ? error.hint : HINTS[provider],
    });
  }
}

/**
 * Refuses a device that cannot be used, before anything runs. The CPU needs no look, and no runtime is loaded for it.
 *
 * @throws DEVICE_UNAVAILABLE, RUNTIME_UNAVAILABLE
 */
export async function requireUsableDevice(id: string): Promise<void> {
  if (parseDevice(id).provider === 'cpu') return;
  const { openRuntime } = await import('../engine/session/open-runtime.ts');
  const runtime = await openRuntime({ threads: 1 });
  try {
    await openDeviceMemory(runtime, id);
  } finally {
    await runtime.close();
  }
}

const HINTS: Readonly<Record<Exclude<Provider, 'cpu'>, string>> = {
  webgpu: 'it needs libvulkan.so.1 and the Vulkan driver of a GPU (or Mesa 25 lavapipe); `fr1 doctor` tells more',
  cuda: 'it needs an NVIDIA GPU and the CUDA libraries of onnxruntime; `fr1 doctor` tells how to get them',
};

/** onnxruntime's messages begin with the place in its source; what went wrong comes last. */
function lastCause(message: string): string {
  const cause = message.split(/ was false\. |\[ONNXRuntimeError\] : \d+ : \w+ : /).at(-1)!;
  return cause.trim() || message;
}
