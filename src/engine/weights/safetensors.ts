/**
 * The safetensors file format: an 8-byte little-endian header length, a JSON header, then the tensors' bytes without
 * gaps. Reading touches the header and the byte ranges asked for, never the whole file; the header is checked completely
 * before the first tensor is handed out. Knows no model.
 *
 * @see https://github.com/huggingface/safetensors (format description)
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { Fr1Error } from '../../errors/fr1-error.ts';
import { BYTES_PER_ELEMENT, type DType, emptyData, type HostTensor, sizeOf } from '../tensor.ts';
import { bfloat16ToFloat32, type FloatDType, float16ToFloat32, fromFloat32, toFloat32 } from './convert.ts';

/** Bits per element of every element type that the format knows. */
const BITS_OF = {
  BOOL: 8,
  U8: 8,
  I8: 8,
  F8_E5M2: 8,
  F8_E4M3: 8,
  F8_E8M0: 8,
  I16: 16,
  U16: 16,
  F16: 16,
  BF16: 16,
  I32: 32,
  U32: 32,
  F32: 32,
  I64: 64,
  U64: 64,
  F64: 64,
} as const;

export type SafetensorsDType = keyof typeof BITS_OF;

/** The element types that the engine can hold. */
const HOST_DTYPE: Partial<Record<SafetensorsDType, DType>> = {
  F32: 'float32',
  F16: 'float16',
  BF16: 'bfloat16',
  I32: 'int32',
  I64: 'int64',
  BOOL: 'bool',
};

const FILE_DTYPE: Record<FloatDType, SafetensorsDType> = { float32: 'F32', float16: 'F16', bfloat16: 'BF16' };

/** The format's own bound on the header. */
const MAX_HEADER_BYTES = 100_000_000;
const CHUNK_BYTES = 4 * 1024 * 1024;
/** One read call must stay below 2 GiB. */
const MAX_READ_BYTES = 1024 * 1024 * 1024;

export interface TensorInfo {
  readonly dtype: SafetensorsDType;
  readonly shape: readonly number[];
  /** Position of the first byte in the file, so that a runtime can map the tensor as external data. */
  readonly offset: number;
  readonly byteLength: number;
}

export interface SafetensorsFile {
  readonly path: string;
  /** In the order of their bytes. */
  readonly names: readonly string[];
  readonly metadata: Readonly<Record<string, string>>;
  has(name: string): boolean;
  /** @throws TENSOR_UNKNOWN */
  info(name: string): TensorInfo;
  /**
   * The tensor as stored.
   *
   * @throws TENSOR_UNKNOWN
   * @throws DTYPE_MISMATCH for an element type that the engine does not hold
   * @throws SAFETENSORS_TRUNCATED when the file has shrunk since it was opened
   */
  read(name: string): HostTensor;
  /**
   * The values of a floating-point tensor, widened to float32; read in small pieces, so that the stored form is never
   * held whole beside the result.
   *
   * @throws SHAPE_MISMATCH when `into` has another number of elements
   */
  readFloat32(name: string, into?: Float32Array): HostTensor<'float32'>;
}

/**
 * Opens a file and validates its header. The file is not kept open.
 *
 * @throws SAFETENSORS_TRUNCATED with the expected and the actual size
 * @throws SAFETENSORS_INVALID with the file and the tensor at fault
 */
export function openSafetensors(path: string): SafetensorsFile {
  const { tensors, metadata } = readHeader(path);
  const names = [...tensors.keys()];

  function info(name: string): TensorInfo {
    const found = tensors.get(name);
    if (found === undefined) {
      throw new Fr1Error('TENSOR_UNKNOWN', `${path} has no tensor "${name}" (it has ${names.length} others)`);
    }
    return found;
  }

  function read(name: string): HostTensor {
    const { dtype, shape, offset, byteLength } = info(name);
    const hostDType = HOST_DTYPE[dtype];
    if (hostDType === undefined) {
      throw new Fr1Error('DTYPE_MISMATCH', `tensor "${name}" of ${path} has dtype ${dtype}, which is not supported`);
    }
    const data = emptyData(hostDType, sizeOf(shape));
    const bytes = new Uint8Array(data.buffer, data.byteOffset, byteLength);
    withFile(path, (file) => readRange(file, path, offset, bytes));
    return { dtype: hostDType, shape, data };
  }

  function readFloat32(name: string, into?: Float32Array): HostTensor<'float32'> {
    const { dtype, shape, offset, byteLength } = info(name);
    if (dtype !== 'F32' && dtype !== 'F16' && dtype !== 'BF16') {
      throw new Fr1Error(
        'DTYPE_MISMATCH',
        `tensor "${name}" of ${path} has dtype ${dtype}; F32, F16 or BF16 is needed here`,
      );
    }
    const size = sizeOf(shape);
    const data = into ?? new Float32Array(size);
    if (data.length !== size) {
      throw new Fr1Error(
        'SHAPE_MISMATCH',
        `tensor "${name}" of ${path} has ${size} elements, the target has room for ${data.length}`,
      );
    }
    withFile(path, (file) => {
      if (dtype === 'F32') {
        readRange(file, path, offset, new Uint8Array(data.buffer, data.byteOffset, byteLength));
        return;
      }
      const widen = dtype === 'F16' ? float16ToFloat32 : bfloat16ToFloat32;
      const piece = new Uint16Array(Math.min(size, CHUNK_BYTES / 2));
      for (let start = 0; start < size; start += piece.length) {
        const count = Math.min(piece.length, size - start);
        readRange(file, path, offset + 2 * start, new Uint8Array(piece.buffer, 0, 2 * count));
        widen(piece.subarray(0, count), data.subarray(start, start + count));
      }
    });
    return { dtype: 'float32', shape, data };
  }

  return { path, names, metadata, has: (name) => tensors.has(name), info, read, readFloat32 };
}

/** A tensor of a file. */
export type StoredTensor = { readonly file: SafetensorsFile; readonly storedName: string };

/** Whether two tensors have the same type, shape and bytes; they are read in pieces, up to the first that differs. */
export function isSameTensor(one: StoredTensor, other: StoredTensor): boolean {
  const [a, b] = [one.file.info(one.storedName), other.file.info(other.storedName)];
  if (a.dtype !== b.dtype || a.shape.join() !== b.shape.join()) return false;
  const pieces = [Buffer.alloc(CHUNK_BYTES), Buffer.alloc(CHUNK_BYTES)] as const;
  return withFile(one.file.path, (first) =>
    withFile(other.file.path, (second) => {
      for (let at = 0; at < a.byteLength; at += CHUNK_BYTES) {
        const length = Math.min(CHUNK_BYTES, a.byteLength - at);
        const [left, right] = [pieces[0].subarray(0, length), pieces[1].subarray(0, length)];
        readRange(first, one.file.path, a.offset + at, left);
        readRange(second, other.file.path, b.offset + at, right);
        if (!left.equals(right)) return false;
      }
      return true;
    }),
  );
}

function withFile<T>(path: string, use: (file: number) => T): T {
  let file: number;
  try {
    file = openSync(path, 'r');
  } catch (cause) {
    throw new Fr1Error('CHECKPOINT_UNREADABLE', `${path} cannot be opened: ${messageOf(cause)}`, { cause });
  }
  try {
    return use(file);
  } finally {
    closeSync(file);
  }
}

/** Fills `target` from the file, however many calls that takes. */
function readRange(file: number, path: string, offset: number, target: Uint8Array): void {
  let done = 0;
  while (done < target.length) {
    const wanted = Math.min(target.length - done, MAX_READ_BYTES);
    const count = readSync(file, target, done, wanted, offset + done);
    if (count === 0) throw truncated(path, offset + target.length, offset + done);
    done += count;
  }
}

function truncated(path: string, expectedBytes: number, actualBytes: number): Fr1Error {
  return new Fr1Error(
    'SAFETENSORS_TRUNCATED',
    `${path} is cut off: ${expectedBytes} bytes expected, ${actualBytes} bytes present`,
    { hint: 'the download or copy did not finish; fetch the file again' },
  );
}

function invalid(path: string, what: string, cause?: unknown): Fr1Error {
  return new Fr1Error('SAFETENSORS_INVALID', `${path} is no valid safetensors file: ${what}`, { cause });
}

function readHeader(path: string): { tensors: Map<string, TensorInfo>; metadata: Record<string, string> } {
  const { text, headerEnd, fileBytes } = withFile(path, (file) => {
    const stat = fstatSync(file);
    if (!stat.isFile()) throw new Fr1Error('CHECKPOINT_UNREADABLE', `${path} is no file`);
    const fileBytes = stat.size;
    if (fileBytes < 8) throw truncated(path, 8, fileBytes);
    const lengthBytes = new Uint8Array(8);
    readRange(file, path, 0, lengthBytes);
    const headerBytes = new DataView(lengthBytes.buffer).getBigUint64(0, true);
    if (headerBytes > BigInt(MAX_HEADER_BYTES)) {
      throw invalid(path, `its first 8 bytes give a header of ${headerBytes} bytes`);
    }
    const headerEnd = 8 + Number(headerBytes);
    if (headerEnd > fileBytes) throw truncated(path, headerEnd, fileBytes);
    const header = new Uint8Array(Number(headerBytes));
    readRange(file, path, 8, header);
    let text: string;
    try {
      text = new TextDecoder('utf-8', { fatal: true }).decode(header);
    } catch (cause) {
      throw invalid(path, 'its header is not UTF-8', cause);
    }
    return { text, headerEnd, fileBytes };
  });

  if (!text.startsWith('{')) throw invalid(path, 'its header does not start with "{"');
  let header: unknown;
  try {
    header = JSON.parse(text);
  } catch (cause) {
    throw invalid(path, `its header is not JSON: ${messageOf(cause)}`, cause);
  }
  if (!isRecord(header)) throw invalid(path, 'its header is not a JSON object');
  const duplicate = duplicateKey(text);
  if (duplicate !== undefined) throw invalid(path, `its header has the key "${duplicate}" twice`);

  const metadata = readMetadata(path, header['__metadata__']);
  const entries = Object.entries(header)
    .filter(([name]) => name !== '__metadata__')
    .map(([name, entry]) => ({ name, ...readEntry(path, name, entry) }))
    .sort((a, b) => a.begin - b.begin || a.end - b.end);

  let covered = 0;
  let previous = 'the header';
  for (const { name, begin, end } of entries) {
    if (begin < covered) throw invalid(path, `tensor "${name}" overlaps ${previous}`);
    if (begin > covered) {
      throw invalid(path, `${begin - covered} bytes between ${previous} and tensor "${name}" belong to no tensor`);
    }
    covered = end;
    previous = `tensor "${name}"`;
  }
  if (headerEnd + covered > fileBytes) throw truncated(path, headerEnd + covered, fileBytes);
  if (headerEnd + covered < fileBytes) {
    throw invalid(path, `${fileBytes - headerEnd - covered} bytes after ${previous} belong to no tensor`);
  }

  const tensors = new Map<string, TensorInfo>();
  for (const { name, dtype, shape, begin, end } of entries) {
    tensors.set(name, { dtype, shape, offset: headerEnd + begin, byteLength: end - begin });
  }
  return { tensors, metadata };
}

function readMetadata(path: string, value: unknown): Record<string, string> {
  if (value === undefined) return {};
  if (!isRecord(value)) throw invalid(path, '__metadata__ is not an object');
  const metadata: Record<string, string> = {};
  for (const [key, text] of Object.entries(value)) {
    if (typeof text !== 'string') throw invalid(path, `__metadata__ entry "${key}" is not a string`);
    metadata[key] = text;
  }
  return metadata;
}

function readEntry(
  path: string,
  name: string,
  entry: unknown,
): { dtype: SafetensorsDType; shape: number[]; begin: number; end: number } {
  const at = `tensor "${name}"`;
  if (!isRecord(entry)) throw invalid(path, `the entry of ${at} is not an object`);
  const { dtype, shape, data_offsets: offsets } = entry;
  if (typeof dtype !== 'string' || !Object.hasOwn(BITS_OF, dtype)) {
    throw invalid(path, `${at} has the unknown dtype ${JSON.stringify(dtype)}`);
  }
  if (!isCounts(shape)) throw invalid(path, `${at} has the impossible shape ${JSON.stringify(shape)}`);
  if (!isCounts(offsets) || offsets.length !== 2) {
    throw invalid(path, `${at} has the impossible data_offsets ${JSON.stringify(offsets)}`);
  }
  const [begin, end] = offsets as [number, number];
  const needed = (sizeOf(shape) * BITS_OF[dtype as SafetensorsDType]) / 8;
  if (!Number.isSafeInteger(needed) || end - begin !== needed) {
    throw invalid(
      path,
      `${at} of dtype ${dtype} and shape [${shape.join(', ')}] needs ${needed} bytes, its range has ${end - begin}`,
    );
  }
  return { dtype: dtype as SafetensorsDType, shape, begin, end };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isCounts(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((item) => Number.isSafeInteger(item) && item >= 0);
}

function messageOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}

/** First key that occurs twice in one object of a valid JSON text; JSON.parse keeps the last one silently. */
function duplicateKey(json: string): string | undefined {
  const open: { keys: Set<string> | undefined; expectsKey: boolean }[] = [];
  for (let i = 0; i < json.length; i++) {
    const top = open[open.length - 1];
    switch (json[i]) {
      case '{':
        open.push({ keys: new Set(), expectsKey: true });
        break;
      case '[':
        open.push({ keys: undefined, expectsKey: false });
        break;
      case '}':
      case ']':
        open.pop();
        break;
      case ',':
        if (top?.keys !== undefined) top.expectsKey = true;
        break;
      case '"': {
        const start = i;
        for (i++; json[i] !== '"'; i++) if (json[i] === '\\') i++;
        if (top?.keys === undefined || !top.expectsKey) break;
        const key = JSON.parse(json.slice(start, i + 1)) as string;
        if (top.keys.has(key)) return key;
        top.keys.add(key);
        top.expectsKey = false;
        break;
      }
      default:
    }
  }
  return undefined;
}

/**
 * A tensor to be written: whole, or in pieces that follow each other, so that it is never held whole. Either is asked for
 * once, when its turn comes, and its result is not kept.
 */
export type TensorSource = { readonly name: string; readonly shape: readonly number[] } & (
  | { load(): HostTensor | Promise<HostTensor> }
  | { pieces(): Iterable<Float32Array> }
);

export interface WriteOptions {
  /** Element type on disk. @default 'float32' */
  readonly dtype?: FloatDType;
  /** Added to `{ format: 'pt' }`. */
  readonly metadata?: Readonly<Record<string, string>>;
}

/** Bytes that {@link writeSafetensors} needs for a tensor's data. */
export function storedBytes(shape: readonly number[], dtype: FloatDType): number {
  return sizeOf(shape) * BYTES_PER_ELEMENT[dtype];
}

/**
 * Writes floating-point tensors, one after the other, to a temporary file that then takes the place of `path`: a reader
 * sees the old file or the whole new one. Same tensors, same bytes: names and header keys are sorted.
 *
 * @throws CHECKPOINT_WRITE_FAILED
 * @throws SHAPE_MISMATCH when a loaded tensor has another shape than announced
 * @throws DTYPE_MISMATCH when a loaded tensor is not floating-point
 */
export async function writeSafetensors(
  path: string,
  tensors: Iterable<TensorSource>,
  options: WriteOptions = {},
): Promise<void> {
  const dtype = options.dtype ?? 'float32';
  const sorted = [...tensors].sort((a, b) => compareText(a.name, b.name));
  const header = headerBytes(path, sorted, dtype, { format: 'pt', ...options.metadata });

  const temporary = `${path}.${process.pid}.tmp`;
  try {
    const file = await open(temporary, 'w');
    try {
      await writeAll(file, header);
      for (const source of sorted) await writeTensor(file, path, source, dtype);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
    await syncFolder(dirname(path));
  } catch (cause) {
    await rm(temporary, { force: true });
    if (cause instanceof Fr1Error) throw cause;
    throw new Fr1Error('CHECKPOINT_WRITE_FAILED', `${path} cannot be written: ${messageOf(cause)}`, { cause });
  }
}

export function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function headerBytes(
  path: string,
  sorted: readonly TensorSource[],
  dtype: FloatDType,
  metadata: Readonly<Record<string, string>>,
): Uint8Array {
  const parts = [`"__metadata__":${JSON.stringify(sortKeys(metadata))}`];
  let begin = 0;
  let previous: string | undefined;
  for (const { name, shape } of sorted) {
    if (name === previous || name === '__metadata__') {
      throw new Fr1Error('CHECKPOINT_WRITE_FAILED', `${path}: the tensor name "${name}" cannot be used twice`);
    }
    previous = name;
    const end = begin + storedBytes(shape, dtype);
    const entry = JSON.stringify({ dtype: FILE_DTYPE[dtype], shape, data_offsets: [begin, end] });
    parts.push(`${JSON.stringify(name)}:${entry}`);
    begin = end;
  }
  const json = new TextEncoder().encode(`{${parts.join(',')}}`);
  const padded = Math.ceil(json.length / 8) * 8;
  const bytes = new Uint8Array(8 + padded).fill(0x20);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(padded), true);
  bytes.set(json, 8);
  return bytes;
}

function sortKeys(record: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(record).sort(([a], [b]) => compareText(a, b)));
}

async function writeTensor(file: FileHandle, path: string, source: TensorSource, dtype: FloatDType): Promise<void> {
  if ('pieces' in source) {
    let written = 0;
    for (const piece of source.pieces()) {
      await writeAll(file, bytesOf(fromFloat32(piece, dtype)));
      written += piece.length;
    }
    if (written !== sizeOf(source.shape)) {
      throw new Fr1Error(
        'SHAPE_MISMATCH',
        `${path}: the pieces of tensor "${source.name}" hold ${written} elements, its shape [${source.shape.join(', ')}] needs ${sizeOf(source.shape)}`,
      );
    }
    return;
  }
  const tensor = await source.load();
  if (tensor.shape.length !== source.shape.length || tensor.shape.some((dim, axis) => dim !== source.shape[axis])) {
    throw new Fr1Error(
      'SHAPE_MISMATCH',
      `${path}: tensor "${source.name}" is [${tensor.shape.join(', ')}], announced as [${source.shape.join(', ')}]`,
    );
  }
  if (tensor.data.length !== sizeOf(source.shape)) {
    throw new Fr1Error(
      'SHAPE_MISMATCH',
      `${path}: tensor "${source.name}" holds ${tensor.data.length} elements, its shape [${source.shape.join(', ')}] needs ${sizeOf(source.shape)}`,
    );
  }
  if (tensor.dtype === dtype) {
    await writeAll(file, bytesOf(tensor.data as Float32Array | Uint16Array));
    return;
  }
  const step = CHUNK_BYTES / 4;
  const data = tensor.data;
  for (let start = 0; start < data.length; start += step) {
    const piece = { dtype: tensor.dtype, shape: [], data: data.subarray(start, start + step) };
    await writeAll(file, bytesOf(fromFloat32(toFloat32(piece), dtype)));
  }
}

function bytesOf(data: Float32Array | Uint16Array): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

async function writeAll(file: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let start = 0; start < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, start, Math.min(bytes.length - start, CHUNK_BYTES));
    start += bytesWritten;
  }
}

/** Makes a rename durable; folders cannot be opened for that on Windows, where it is not needed. */
export async function syncFolder(folder: string): Promise<void> {
  if (process.platform === 'win32') return;
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
