/**
 * Reader of MATLAB's level 5 MAT-files, as far as dataset lists use them: numbers, texts, cells and structs, plain or
 * compressed, in either byte order. Sparse matrices, objects, functions and version 7.3 files (HDF5) are refused.
 *
 * @see MathWorks, "MAT-File Format", chapter 1: level 5
 */
import { inflateSync } from 'node:zlib';
import { readBytes } from '../artifacts/read-text.ts';
import { Fr1Error } from '../errors/fr1-error.ts';

/** Elements are in MATLAB's order: the first dimension runs fastest. */
export type MatValue =
  | { readonly kind: 'numbers'; readonly dims: readonly number[]; readonly values: readonly number[] }
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'cells'; readonly dims: readonly number[]; readonly cells: readonly MatValue[] }
  | {
      readonly kind: 'structs';
      readonly dims: readonly number[];
      readonly elements: readonly Readonly<Record<string, MatValue>>[];
    };

/** Variables by name. */
export type MatFile = Readonly<Record<string, MatValue>>;

const HEADER_BYTES = 128;
const MATRIX = 14;
const COMPRESSED = 15;

/** Array classes. */
const CELL = 1;
const STRUCT = 2;
const CHAR = 4;
const FIRST_NUMERIC = 6;
const LAST_NUMERIC = 15;

/** Storage types: how one value is read, and its bytes. */
const STORAGE: Readonly<
  Record<number, readonly [bytes: number, read: (view: DataView, at: number, le: boolean) => number]>
> = {
  1: [1, (view, at) => view.getInt8(at)],
  2: [1, (view, at) => view.getUint8(at)],
  3: [2, (view, at, le) => view.getInt16(at, le)],
  4: [2, (view, at, le) => view.getUint16(at, le)],
  5: [4, (view, at, le) => view.getInt32(at, le)],
  6: [4, (view, at, le) => view.getUint32(at, le)],
  7: [4, (view, at, le) => view.getFloat32(at, le)],
  9: [8, (view, at, le) => view.getFloat64(at, le)],
  12: [8, (view, at, le) => Number(view.getBigInt64(at, le))],
  13: [8, (view, at, le) => Number(view.getBigUint64(at, le))],
};
const UTF8 = 16;
const UTF16 = 17;
const UTF32 = 18;

/**
 * All variables of a file.
 *
 * @throws DATA_UNREADABLE when the file is missing, damaged or of another version
 */
export async function readMatFile(file: string): Promise<MatFile> {
  const bytes = await readBytes(file);
  try {
    return parseMatFile(bytes);
  } catch (cause) {
    throw new Fr1Error('DATA_UNREADABLE', `${file} cannot be read as a MAT-file: ${(cause as Error).message}`, {
      hint: 'download the file again; files of MATLAB 7.3 must be saved anew as version 7 or older',
      cause,
    });
  }
}

/** @throws Error (also RangeError) when the bytes are not a level 5 MAT-file */
export function parseMatFile(bytes: Uint8Array): MatFile {
  if (bytes.length < HEADER_BYTES) throw new Error('it is shorter than a header');
  const mark = String.fromCharCode(bytes[126]!, bytes[127]!);
  if (mark !== 'IM' && mark !== 'MI') throw new Error('its header has no byte order mark');
  const isLittleEndian = mark === 'IM';
  const version = viewOf(bytes).getUint16(124, isLittleEndian);
  if (version !== 0x0100) throw new Error(`its version is 0x${version.toString(16)} instead of 0x100 (level 5)`);
  const variables: Record<string, MatValue> = {};
  const reader = new ElementReader(bytes, isLittleEndian, HEADER_BYTES);
  while (!reader.atEnd) {
    const { type, data } = reader.next();
    const matrix = type === COMPRESSED ? new ElementReader(inflateSync(data), isLittleEndian).next() : { type, data };
    if (matrix.type !== MATRIX) throw new Error(`an element of type ${matrix.type} stands where a variable must`);
    const { name, value } = readMatrix(matrix.data, isLittleEndian);
    Object.defineProperty(variables, name, { value, enumerable: true });
  }
  return variables;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

interface Element {
  readonly type: number;
  readonly data: Uint8Array;
}

/** Data elements one after the other: a tag of type and size, the data, padding to 8 bytes. */
class ElementReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #isLittleEndian: boolean;
  #at: number;

  constructor(bytes: Uint8Array, isLittleEndian: boolean, at = 0) {
    this.#bytes = bytes;
    this.#view = viewOf(bytes);
    this.#isLittleEndian = isLittleEndian;
    this.#at = at;
  }

  get atEnd(): boolean {
    return this.#at >= this.#bytes.length;
  }

  next(): Element {
    const first = this.#view.getUint32(this.#at, this.#isLittleEndian);
    // The small form packs size and type into one word and at most 4 bytes of data into the next.
    const smallSize = first >>> 16;
    if (smallSize > 0) {
      const from = this.#at + 4;
      this.#at += 8;
      return { type: first & 0xffff, data: this.#slice(from, smallSize) };
    }
    const size = this.#view.getUint32(this.#at + 4, this.#isLittleEndian);
    const data = this.#slice(this.#at + 8, size);
    this.#at += 8 + (first === COMPRESSED ? size : Math.ceil(size / 8) * 8);
    return { type: first, data };
  }

  #slice(from: number, size: number): Uint8Array {
    if (from + size > this.#bytes.length) throw new Error('it ends in the middle of a value');
    return this.#bytes.subarray(from, from + size);
  }
}

function readMatrix(data: Uint8Array, isLittleEndian: boolean): { name: string; value: MatValue } {
  // An empty element stands for an empty matrix.
  if (data.length === 0) return { name: '', value: { kind: 'numbers', dims: [0, 0], values: [] } };
  const reader = new ElementReader(data, isLittleEndian);
  const read = (): number[] => readNumbers(reader.next(), isLittleEndian);
  const flags = read();
  const dims = read();
  const name = String.fromCharCode(...read());
  const arrayClass = flags[0]! & 0xff;
  const count = dims.reduce((product, size) => product * size, 1);
  const child = (): MatValue => {
    const element = reader.next();
    if (element.type !== MATRIX) throw new Error(`an element of type ${element.type} stands where a matrix must`);
    return readMatrix(element.data, isLittleEndian).value;
  };

  if (arrayClass === CELL) {
    return { name, value: { kind: 'cells', dims, cells: Array.from({ length: count }, child) } };
  }
  if (arrayClass === STRUCT) {
    const nameLength = read()[0]!;
    const names = reader.next().data;
    const fields = Array.from({ length: names.length / nameLength }, (_, i) =>
      upToNul(names.subarray(i * nameLength, (i + 1) * nameLength)),
    );
    const elements = Array.from({ length: count }, () => Object.fromEntries(fields.map((field) => [field, child()])));
    return { name, value: { kind: 'structs', dims, elements } };
  }
  if (arrayClass === CHAR)
    return { name, value: { kind: 'text', text: readText(reader.next(), dims, isLittleEndian) } };
  if (arrayClass >= FIRST_NUMERIC && arrayClass <= LAST_NUMERIC) {
    return { name, value: { kind: 'numbers', dims, values: read() } };
  }
  throw new Error(`"${name}" is of the array class ${arrayClass}, which is not read`);
}

function readNumbers({ type, data }: Element, isLittleEndian: boolean): number[] {
  const storage = STORAGE[type];
  if (storage === undefined) throw new Error(`values of the storage type ${type} are not read`);
  const [bytes, read] = storage;
  const view = viewOf(data);
  return Array.from({ length: Math.floor(data.length / bytes) }, (_, i) => read(view, i * bytes, isLittleEndian));
}

/** A text of one row; the rows of a text with several are joined by line breaks, without the blanks that fill them. */
function readText(element: Element, dims: readonly number[], isLittleEndian: boolean): string {
  const characters = [...decodeText(element, isLittleEndian)];
  const rows = dims[0] ?? 0;
  if (rows <= 1) return characters.join('');
  return Array.from({ length: rows }, (_, row) =>
    characters
      .filter((_, i) => i % rows === row)
      .join('')
      .trimEnd(),
  ).join('\n');
}

function decodeText(element: Element, isLittleEndian: boolean): string {
  const { type, data } = element;
  if (type === UTF8) return new TextDecoder('utf-8', { fatal: true }).decode(data);
  const codes = readNumbers({ type: type === UTF16 ? 4 : type === UTF32 ? 6 : type, data }, isLittleEndian);
  return type === UTF32 ? String.fromCodePoint(...codes) : codes.map((code) => String.fromCharCode(code)).join('');
}

function upToNul(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return String.fromCharCode(...(end === -1 ? bytes : bytes.subarray(0, end)));
}
