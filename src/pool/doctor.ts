/** Looks at what this machine offers: runtime, devices, room on the disk; and says how to get what is missing. */
import { existsSync } from 'node:fs';
import { statfs } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { availableParallelism, cpus } from 'node:os';
import path from 'node:path';
import { openRuntime } from '../engine/session/open-runtime.ts';
import { bridgeVersion, findOrtLibrary } from '../engine/session/ort-api.ts';
import type { Runtime } from '../engine/session/runtime.ts';
import { openDeviceMemory } from './devices.ts';
import { nvidiaCards } from './nvidia-cards.ts';
import { processMemory } from './process-memory.ts';

/** One line of the report. */
export interface Finding {
  readonly subject: string;
  readonly isUsable: boolean;
  /** What was found, or why it cannot be used. */
  readonly detail: string;
  /** What to do, where something is missing. */
  readonly steps: readonly string[];
}

/** Devices that `examine` looks at. */
export const EXAMINED_DEVICES = ['cpu', 'webgpu', 'cuda'] as const;

/**
 * @param folder where results would be kept
 * @param devices ids beside `EXAMINED_DEVICES`
 */
export async function examine(folder: string, devices: readonly string[] = []): Promise<Finding[]> {
  const findings: Finding[] = [nodeFinding()];
  let runtime: Runtime | undefined;
  try {
    runtime = await openRuntime({ threads: availableParallelism() });
    findings.push(runtimeFinding(runtime));
  } catch (error) {
    const steps = ['npm ci', 'fr1 runs on Linux x64 and arm64, macOS arm64, Windows x64 and arm64'];
    findings.push({ subject: 'onnxruntime', isUsable: false, detail: messageOf(error), steps });
  }
  try {
    for (const id of new Set([...EXAMINED_DEVICES, ...devices])) findings.push(await deviceFinding(runtime, id));
  } finally {
    await runtime?.close();
  }
  findings.push(await diskFinding(folder));
  return findings;
}

function nodeFinding(): Finding {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  const isUsable = major > 20 || (major === 20 && minor >= 19);
  return {
    subject: 'node',
    isUsable,
    detail: `${process.versions.node} on ${process.platform} ${process.arch}`,
    steps: isUsable ? [] : ['install Node 20.19 or later'],
  };
}

function runtimeFinding(runtime: Runtime): Finding {
  const isMain = runtime.name === 'c-api';
  const way = isMain ? `its C API (koffi ${bridgeVersion()})` : 'the onnxruntime-node package, which is slower';
  return {
    subject: 'onnxruntime',
    isUsable: true,
    detail: `${runtime.version} through ${way}`,
    steps:
      isMain || runtime.fallbackReason === undefined
        ? []
        : [`the C API was refused: ${messageOf(runtime.fallbackReason)}`, 'npm install koffi'],
  };
}

async function deviceFinding(runtime: Runtime | undefined, id: string): Promise<Finding> {
  if (runtime === undefined) return { subject: id, isUsable: false, detail: 'onnxruntime cannot be loaded', steps: [] };
  if (id === 'cpu') {
    const model = cpus()[0]?.model.trim() || 'CPU';
    const memory = (processMemory() / 2 ** 30).toFixed(1);
    const detail = `${model}, ${availableParallelism()} threads, ${memory} GiB of memory`;
    return { subject: id, isUsable: true, detail, steps: [] };
  }
  try {
    await openDeviceMemory(runtime, id);
    return { subject: id, isUsable: true, detail: await descriptionOf(id), steps: [] };
  } catch (error) {
    const [detail = ''] = messageOf(error).replace(`the device "${id}" cannot be used: `, '').split(' with error: ');
    return { subject: id, isUsable: false, detail, steps: runtime.name === 'worker' ? [] : STEPS[kindOf(id)]() };
  }
}

type DeviceKind = 'webgpu' | 'cuda';

function kindOf(id: string): DeviceKind {
  return id === 'webgpu' ? 'webgpu' : 'cuda';
}

/** What is known of a usable device; onnxruntime tells neither a card's name nor which adapter it has taken. */
async function descriptionOf(id: string): Promise<string> {
  const cards = [...new Set(await nvidiaCards())];
  const isCuda = kindOf(id) === 'cuda';
  const what = isCuda ? 'the CUDA libraries of onnxruntime are in place' : 'the default adapter';
  return cards.length === 0 ? what : `${what}; NVIDIA's driver has ${cards.join(', ')}`;
}

const STEPS: Readonly<Record<DeviceKind, () => string[]>> = { webgpu: webGpuSteps, cuda: cudaSteps };

function webGpuSteps(): string[] {
  if (process.platform !== 'linux') return ['update the driver of the GPU'];
  return [
    'the Vulkan loader and the GPU driver, e.g. on Debian: apt-get install libvulkan1 mesa-vulkan-drivers',
    'NVIDIA: the driver itself, with libGLX_nvidia.so.0, and apt-get install libvulkan1 libegl1 libgl1',
    'no GPU: Mesa 24 or later has a software adapter (lavapipe), which is right and slow',
  ];
}

/** Names the libraries that are not there, and two sources of them. */
function cudaSteps(): string[] {
  if (process.platform !== 'linux' || process.arch !== 'x64') return ['CUDA is offered on Linux x64 only'];
  const folder = path.dirname(findOrtLibrary());
  const version = versionOf('onnxruntime-node');
  const libraries = ['libonnxruntime_providers_shared.so', 'libonnxruntime_providers_cuda.so'];
  const missing = libraries.filter((name) => !existsSync(path.join(folder, name)));
  const runtimes =
    'CUDA 13: pip install nvidia-cublas nvidia-cuda-runtime nvidia-curand nvidia-cufft nvidia-cudnn-cu13';
  if (missing.length === 0) {
    return [
      'the libraries are there; what they need is not found',
      runtimes,
      'add their lib folders to LD_LIBRARY_PATH',
    ];
  }
  return [
    `missing in ${folder}: ${missing.join(', ')}`,
    'for CUDA 12: ONNXRUNTIME_NODE_INSTALL=cuda12 npm rebuild onnxruntime-node',
    `for CUDA 13: pip download --no-deps onnxruntime-gpu==${version}`,
    `             unzip -j onnxruntime_gpu-*.whl 'onnxruntime/capi/libonnxruntime_providers_*.so' -d ${folder}`,
    runtimes,
  ];
}

async function diskFinding(folder: string): Promise<Finding> {
  const { bavail, bsize } = await statfs(folder);
  const gib = (bavail * bsize) / 2 ** 30;
  const isUsable = gib >= 1;
  return {
    subject: 'disk',
    isUsable,
    detail: `${gib.toFixed(1)} GiB free in ${folder}`,
    steps: isUsable
      ? []
      : ['the quickstart needs about 0.1 GiB, a model of 3 billion weights about 20; `fr1 gc` makes room'],
  };
}

function messageOf(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split('\n')[0]!;
}

function versionOf(name: string): string {
  return (createRequire(import.meta.url)(`${name}/package.json`) as { version: string }).version;
}
