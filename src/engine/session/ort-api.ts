/**
 * The C interface of onnxruntime's shared library, called through koffi. Knows functions, pointers and statuses; sessions
 * and tensors are c-api.ts.
 *
 * `OrtGetApiBase` leads to a table of function pointers whose order is that of `struct OrtApi` in
 * include/onnxruntime/core/session/onnxruntime_c_api.h (microsoft/onnxruntime). Entries are only ever appended, so an
 * index holds for every version from the one that introduced it. A wrong index or signature is a crash, so no other
 * module builds calls, and `loadOrtApi` refuses a library that is not what it expects.
 */
import { readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import koffi from 'koffi';
import type { ErrorCode } from '../../errors/catalogue.ts';
import { Fr1Error } from '../../errors/fr1-error.ts';
import { LOG_SEVERITY } from './session-settings.ts';

/** An address in native memory. */
export type Pointer = bigint;
type Nullable = Pointer | null;
type Memory = Pointer | NodeJS.ArrayBufferView | null;

/** The API version asked for: the newest feature used here came with 1.12, 22 is what 1.22 and later all offer. */
const API_VERSION = 22;

/** Stacks that native calls run on; koffi's own default for asynchronous calls (128 KiB) is too small for graph passes. */
const STACK_BYTES = 8 * 1024 * 1024;

const P = 'void *';
/** Paths are wide characters on Windows. */
const PATH = process.platform === 'win32' ? 'str16' : 'str';

/** Index in the table, result, parameters. A `void *` result is an OrtStatus: null, or an error to be released. */
const FUNCTIONS = {
  getErrorCode: [1, 'int', [P]],
  getErrorMessage: [2, 'str', [P]],
  createEnv: [3, P, ['int', 'str', P]],
  createSessionFromArray: [8, P, [P, P, 'size_t', P, P]],
  run: [9, P, [P, P, P, P, 'size_t', P, 'size_t', P]],
  createSessionOptions: [10, P, [P]],
  enableProfiling: [14, P, [P, PATH]],
  disableMemPattern: [17, P, [P]],
  disableCpuMemArena: [19, P, [P]],
  setSessionLogId: [20, P, [P, 'str']],
  setSessionLogSeverityLevel: [22, P, [P, 'int']],
  setSessionGraphOptimizationLevel: [23, P, [P, 'int']],
  setIntraOpNumThreads: [24, P, [P, 'int']],
  setInterOpNumThreads: [25, P, [P, 'int']],
  sessionGetInputCount: [30, P, [P, P]],
  sessionGetOutputCount: [31, P, [P, P]],
  sessionGetInputTypeInfo: [33, P, [P, 'size_t', P]],
  sessionGetOutputTypeInfo: [34, P, [P, 'size_t', P]],
  sessionGetInputName: [36, P, [P, 'size_t', P, P]],
  sessionGetOutputName: [37, P, [P, 'size_t', P, P]],
  createRunOptions: [39, P, [P]],
  runOptionsSetTerminate: [46, P, [P]],
  createTensorWithData: [49, P, [P, P, 'size_t', P, 'size_t', 'int', P]],
  getTensorMutableData: [51, P, [P, P]],
  castTypeInfoToTensorInfo: [55, P, [P, P]],
  getTensorElementType: [60, P, [P, P]],
  getDimensionsCount: [61, P, [P, P]],
  getDimensions: [62, P, [P, P, 'size_t']],
  getTensorTypeAndShape: [65, P, [P, P]],
  createMemoryInfo: [68, P, ['str', 'int', 'int', 'int', P]],
  createCpuMemoryInfo: [69, P, ['int', 'int', P]],
  allocatorAlloc: [75, P, [P, 'size_t', P]],
  allocatorFree: [76, P, [P, P]],
  getAllocatorWithDefaultOptions: [78, P, [P]],
  releaseStatus: [93, 'void', [P]],
  releaseMemoryInfo: [94, 'void', [P]],
  releaseSession: [95, 'void', [P]],
  releaseValue: [96, 'void', [P]],
  releaseRunOptions: [97, 'void', [P]],
  releaseTypeInfo: [98, 'void', [P]],
  releaseTensorTypeAndShapeInfo: [99, 'void', [P]],
  releaseSessionOptions: [100, 'void', [P]],
  addSessionConfigEntry: [130, P, [P, 'str', 'str']],
  createAllocator: [131, P, [P, P, P]],
  releaseAllocator: [132, 'void', [P]],
  appendCudaProvider: [204, P, [P, P]],
  createCudaProviderOptions: [205, P, [P]],
  updateCudaProviderOptions: [206, P, [P, P, P, 'size_t']],
  releaseCudaProviderOptions: [208, 'void', [P]],
  appendExecutionProvider: [216, P, [P, 'str', P, P, 'size_t']],
} as const satisfies Record<string, readonly [index: number, result: string, parameters: readonly string[]]>;

type Entry = typeof FUNCTIONS;
type Parameter<T> = T extends 'void *' ? Memory : T extends 'str' | 'str16' ? string : number;
type Parameters_<T extends readonly string[]> = { -readonly [K in keyof T]: Parameter<T[K]> };
type Result<T> = T extends 'void *' ? Nullable : T extends 'str' ? string : T extends 'int' ? number : undefined;

/** A native function; `async` runs it on libuv's thread pool. */
interface NativeFunction<A extends unknown[], R> {
  (...args: A): R;
  async(...args: [...A, (error: Error | null, result: R) => void]): void;
}

/** Functions by name, as the table lists them. */
export type OrtFunctions = {
  readonly [K in keyof Entry]: NativeFunction<Parameters_<Entry[K][2]>, Result<Entry[K][1]>>;
};

export interface OrtApi extends OrtFunctions {
  readonly version: string;
  /** The process-wide environment; never released, because onnxruntime-node shares it. */
  readonly env: Pointer;
  readonly cpuMemory: Pointer;
  readonly allocator: Pointer;
}

let loaded: OrtApi | undefined;
/** Held for the life of the process: koffi unloads a library whose handle is collected, whatever points into it. */
let library: ReturnType<typeof koffi.load> | undefined;

/**
 * The function table of the shared library inside the onnxruntime-node package; loaded once per process.
 *
 * @throws RUNTIME_UNAVAILABLE when koffi or the library cannot be loaded, or is too old
 */
export function loadOrtApi(libraryPath = findOrtLibrary()): OrtApi {
  loaded ??= load(libraryPath);
  return loaded;
}

/**
 * Path of the shared library that onnxruntime-node ships for this platform.
 *
 * @throws RUNTIME_UNAVAILABLE when the package holds none
 */
export function findOrtLibrary(platform: string = process.platform, arch: string = process.arch): string {
  const require = createRequire(import.meta.url);
  const binaries = path.join(path.dirname(require.resolve('onnxruntime-node/package.json')), 'bin');
  const pattern =
    platform === 'win32'
      ? /^onnxruntime\.dll$/
      : platform === 'darwin'
        ? /^libonnxruntime(\.\d+)*\.dylib$/
        : /^libonnxruntime\.so(\.\d+)*$/;
  for (const abi of readdirSync(binaries).sort()) {
    const folder = path.join(binaries, abi, platform, arch);
    let names: string[];
    try {
      names = readdirSync(folder);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') continue;
      throw error;
    }
    // NOTE: the shortest name is the one that the binding itself links to, so both share one copy in memory.
    const [name] = names.filter((name) => pattern.test(name)).sort((a, b) => a.length - b.length);
    if (name !== undefined) return path.join(folder, name);
  }
  throw new Fr1Error('RUNTIME_UNAVAILABLE', `onnxruntime-node ships no library for ${platform}/${arch}`, {
    hint: 'supported: linux x64 and arm64, macOS arm64, Windows x64 and arm64',
  });
}

/** Reads one pointer that a native function writes. */
export function outPointer(call: (out: BigUint64Array) => Nullable, code: ErrorCode, what: string): Pointer {
  const out = new BigUint64Array(1);
  checkStatus(call(out), code, what);
  return out[0]!;
}

/** Reads one number that a native function writes; `bytes` is the width of the C type. */
export function outNumber(call: (out: BigInt64Array) => Nullable, code: ErrorCode, what: string): number {
  const out = new BigInt64Array(1);
  checkStatus(call(out), code, what);
  return Number(out[0]!);
}

/** Throws the error that a status holds and releases it; null is success. */
export function checkStatus(status: Nullable, code: ErrorCode, what: string): void {
  const message = takeMessage(status);
  if (message !== undefined) throw new Fr1Error(code, `${what}: ${message}`);
}

/** The message of a status, which is released; undefined is success. */
export function takeMessage(status: Nullable): string | undefined {
  if (status === null) return undefined;
  const api = loadOrtApi();
  const message = api.getErrorMessage(status);
  api.releaseStatus(status);
  return message;
}

/** Runs a native function on libuv's thread pool. */
export function callAsync<A extends unknown[], R>(native: NativeFunction<A, R>, ...args: A): Promise<R> {
  return new Promise((resolve, reject) => {
    native.async(...args, (error, result) => (error ? reject(error) : resolve(result)));
  });
}

/** Version of koffi, through which the library is called. */
export function bridgeVersion(): string {
  return koffi.version;
}

/** Address of the first byte of a view. */
export function addressOf(view: NodeJS.ArrayBufferView): Pointer {
  return koffi.address(view);
}

/** The zero-terminated string at an address. */
export function stringAt(address: Pointer): string {
  return koffi.decode.string(address);
}

/** A copy of native memory. */
export function copyBytes(address: Pointer, bytes: number): ArrayBuffer {
  return koffi.view(address, bytes).slice(0);
}

function load(libraryPath: string): OrtApi {
  try {
    setStackSize();
    library = koffi.load(libraryPath);
    const base: Pointer = library.func('OrtGetApiBase', P, [])();
    const pointerBytes = koffi.sizeof(P);
    const functionAt = (table: Pointer, index: number, result: string, parameters: readonly string[]) =>
      koffi.decode(koffi.decode(table, index * pointerBytes, P), koffi.proto(result, [...parameters]));
    const version: string = functionAt(base, 1, 'str', [])();
    requireVersion(version);
    const table: Nullable = functionAt(base, 0, P, ['uint32_t'])(API_VERSION);
    if (table === null) throw new Error(`API version ${API_VERSION} is not offered by onnxruntime ${version}`);
    const functions = Object.fromEntries(
      Object.entries(FUNCTIONS).map(([name, [index, result, parameters]]) => [
        name,
        functionAt(table, index, result, parameters),
      ]),
    ) as unknown as OrtFunctions;
    return start(functions, version);
  } catch (error) {
    if (error instanceof Fr1Error) throw error;
    throw new Fr1Error('RUNTIME_UNAVAILABLE', `cannot use ${libraryPath}: ${(error as Error).message}`, {
      cause: error,
    });
  }
}

/** Fails when koffi has loaded a library with small stacks already; it then takes no other size. */
function setStackSize(): void {
  const config = koffi.config();
  if (config.sync_stack_size === STACK_BYTES && config.async_stack_size === STACK_BYTES) return;
  koffi.config({ ...config, sync_stack_size: STACK_BYTES, async_stack_size: STACK_BYTES });
}

function requireVersion(version: string): void {
  const [major, minor] = version.split('.').map(Number);
  if (major !== 1 || minor === undefined || !(minor >= API_VERSION)) {
    throw new Error(`onnxruntime ${version} is not one of the versions 1.${API_VERSION} and later`);
  }
}

const ARENA_ALLOCATOR = 1;
const MEMORY_TYPE_DEFAULT = 0;

function start(functions: OrtFunctions, version: string): OrtApi {
  const out = new BigUint64Array(1);
  const take = (status: Nullable, what: string): Pointer => {
    if (status !== null) throw new Error(`${what}: ${functions.getErrorMessage(status)}`);
    return out[0]!;
  };
  return {
    ...functions,
    version,
    env: take(functions.createEnv(LOG_SEVERITY, 'fr1', out), 'CreateEnv'),
    cpuMemory: take(functions.createCpuMemoryInfo(ARENA_ALLOCATOR, MEMORY_TYPE_DEFAULT, out), 'CreateCpuMemoryInfo'),
    allocator: take(functions.getAllocatorWithDefaultOptions(out), 'GetAllocatorWithDefaultOptions'),
  };
}
