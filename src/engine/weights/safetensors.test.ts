import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { HostTensor } from '../tensor.ts';
import { openSafetensors, type TensorSource, writeSafetensors } from './safetensors.ts';

const FIXTURE = new URL('../../../test/fixtures/qwen2_5_vl/tiny_tied/', import.meta.url);
const fixture = (name: string) => fileURLToPath(new URL(name, FIXTURE));

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'fr1-safetensors-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A file with the given header text and data length. */
function craft(header: string | Uint8Array, dataBytes: number, length?: bigint): string {
  const text = typeof header === 'string' ? new TextEncoder().encode(header) : header;
  const bytes = Buffer.alloc(8 + text.length + dataBytes);
  bytes.writeBigUInt64LE(length ?? BigInt(text.length), 0);
  bytes.set(text, 8);
  const path = join(folder, 'crafted.safetensors');
  writeFileSync(path, bytes);
  return path;
}

const entry = (dtype: string, shape: number[], begin: number, end: number) =>
  JSON.stringify({ dtype, shape, data_offsets: [begin, end] });

function source(name: string, shape: number[], values: readonly number[]): TensorSource {
  return { name, shape, load: () => ({ dtype: 'float32', shape, data: Float32Array.from(values) }) };
}

describe('openSafetensors()', () => {
  it('lists names, shapes, metadata and byte ranges of a file written by transformers', () => {
    const file = openSafetensors(fixture('model.safetensors'));
    expect(file.metadata).toEqual({ format: 'pt' });
    expect(file.names).toHaveLength(92);
    expect(file.names[0]).toBe('model.embed_tokens.weight');
    const info = file.info('visual.patch_embed.proj.weight');
    expect(info).toMatchObject({ dtype: 'F32', shape: [32, 3, 2, 14, 14], byteLength: 150528 });
    expect(info.offset + info.byteLength).toBe(statSync(file.path).size);
  });

  it('reads each tensor at its own byte range', () => {
    const file = openSafetensors(fixture('expected.safetensors'));
    const ids = file.read('input_ids');
    expect(ids).toMatchObject({ dtype: 'int64', shape: [2, 45] });
    expect(ids.data).toContain(316n);
    const loss = file.readFloat32('loss');
    expect(loss.data[0]).toBeGreaterThan(5);
    expect(loss.data[0]).toBeLessThan(8);
  });

  it('fails on an unknown tensor, an integer read as float and a target of another size', () => {
    const file = openSafetensors(fixture('expected.safetensors'));
    expect(() => file.read('nope')).toThrow(expect.objectContaining({ code: 'TENSOR_UNKNOWN' }));
    expect(() => file.readFloat32('input_ids')).toThrow(expect.objectContaining({ code: 'DTYPE_MISMATCH' }));
    expect(() => file.readFloat32('loss', new Float32Array(2))).toThrow(
      expect.objectContaining({ code: 'SHAPE_MISMATCH' }),
    );
  });

  it('names a cut-off file with the expected and the actual bytes, wherever it is cut', () => {
    const whole = readFileSync(fixture('model.safetensors'));
    const path = join(folder, 'cut.safetensors');
    for (const size of [0, 7, 8, 500, 9056, whole.length - 1]) {
      writeFileSync(path, whole.subarray(0, size));
      const expected = size < 8 ? 8 : size < 9056 ? 9056 : whole.length;
      expect(() => openSafetensors(path)).toThrow(
        expect.objectContaining({
          code: 'SAFETENSORS_TRUNCATED',
          message: `${path} is cut off: ${expected} bytes expected, ${size} bytes present`,
        }),
      );
    }
  });

  it('notices that a file has shrunk after it was opened', () => {
    const path = join(folder, 'shrinking.safetensors');
    writeFileSync(path, readFileSync(fixture('model.safetensors')));
    const file = openSafetensors(path);
    truncateSync(path, 500_000);
    expect(() => file.read('visual.patch_embed.proj.weight')).toThrow(
      expect.objectContaining({ code: 'SAFETENSORS_TRUNCATED' }),
    );
  });

  it('fails on a file that does not exist', () => {
    expect(() => openSafetensors(join(folder, 'absent.safetensors'))).toThrow(
      expect.objectContaining({ code: 'CHECKPOINT_UNREADABLE' }),
    );
  });

  const bad: [string, () => string, RegExp][] = [
    ['a header length that no header has', () => craft('{}', 0, 1n << 60n), /header of 1152921504606846976 bytes/],
    ['a header that is not UTF-8', () => craft(Uint8Array.of(0x7b, 0xff, 0x7d), 0), /not UTF-8/],
    ['a header that is not JSON', () => craft('{"a":}', 0), /not JSON/],
    ['a header that does not start with a brace', () => craft(' {}', 0), /does not start/],
    [
      'a key that occurs twice',
      () => craft(`{"a":${entry('F32', [1], 0, 4)},"\\u0061":${entry('F32', [1], 4, 8)}}`, 8),
      /"a" twice/,
    ],
    [
      'a repeated field',
      () => craft('{"a":{"dtype":"F32","dtype":"F16","shape":[1],"data_offsets":[0,2]}}', 2),
      /"dtype" twice/,
    ],
    ['an unknown dtype', () => craft(`{"a":${entry('F31', [1], 0, 4)}}`, 4), /tensor "a" has the unknown dtype "F31"/],
    ['an inherited property as dtype', () => craft(`{"a":${entry('toString', [1], 0, 4)}}`, 4), /unknown dtype/],
    ['a negative dimension', () => craft(`{"a":${entry('F32', [-1], 0, 4)}}`, 4), /impossible shape \[-1\]/],
    ['a fractional dimension', () => craft(`{"a":${entry('F32', [1.5], 0, 6)}}`, 6), /impossible shape/],
    [
      'three offsets',
      () => craft('{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}}', 4),
      /impossible data_offsets/,
    ],
    [
      'offsets in the wrong order',
      () => craft(`{"a":${entry('F32', [1], 4, 0)}}`, 4),
      /needs 4 bytes, its range has -4/,
    ],
    [
      'a range that does not fit the shape',
      () => craft(`{"a":${entry('BF16', [2, 3], 0, 10)}}`, 10),
      /needs 12 bytes, its range has 10/,
    ],
    ['a shape whose product overflows', () => craft(`{"a":${entry('F32', [2 ** 40, 2 ** 40], 0, 0)}}`, 0), /needs/],
    [
      'an overlap',
      () => craft(`{"a":${entry('F32', [2], 0, 8)},"b":${entry('F32', [2], 4, 12)}}`, 12),
      /"b" overlaps tensor "a"/,
    ],
    [
      'a hole',
      () => craft(`{"a":${entry('F32', [1], 0, 4)},"b":${entry('F32', [1], 8, 12)}}`, 12),
      /4 bytes between tensor "a" and tensor "b"/,
    ],
    ['bytes that belong to no tensor', () => craft(`{"a":${entry('F32', [1], 0, 4)}}`, 9), /5 bytes after tensor "a"/],
    ['an entry that is no object', () => craft('{"a":3}', 0), /entry of tensor "a"/],
    ['metadata that is not text', () => craft('{"__metadata__":{"a":1}}', 0), /"a" is not a string/],
  ];
  it.each(bad)('refuses %s', (_, make, message) => {
    const path = make();
    expect(() => openSafetensors(path)).toThrow(expect.objectContaining({ code: 'SAFETENSORS_INVALID' }));
    expect(() => openSafetensors(path)).toThrow(message);
    expect(() => openSafetensors(path)).toThrow(path);
  });

  it('accepts tensors without elements, scalars and a file without tensors', () => {
    const path = craft(`{"none":${entry('F32', [0, 3], 0, 0)},"one":${entry('I64', [], 0, 8)}}`, 8);
    const file = openSafetensors(path);
    expect(file.read('none')).toMatchObject({ shape: [0, 3] });
    expect(file.read('one').data).toEqual(BigInt64Array.of(0n));
    expect(openSafetensors(craft('{}', 0)).names).toEqual([]);
  });

  it('keeps a tensor named like a property of every object apart', () => {
    const path = craft(`{"__proto__":${entry('F32', [1], 0, 4)},"constructor":${entry('F32', [1], 4, 8)}}`, 8);
    expect(openSafetensors(path).names).toEqual(['__proto__', 'constructor']);
  });
});

describe('writeSafetensors()', () => {
  it('repeats a file of transformers byte by byte', async () => {
    const from = openSafetensors(fixture('model.safetensors'));
    const path = join(folder, 'copy.safetensors');
    const tensors = from.names
      .toReversed()
      .map((name) => ({ name, shape: from.info(name).shape, load: () => from.read(name) }));
    await writeSafetensors(path, tensors);
    expect(readFileSync(path).equals(readFileSync(from.path))).toBe(true);
  });

  it.each(['float32', 'bfloat16', 'float16'] as const)('writes and reads back %s', async (dtype) => {
    const path = join(folder, `${dtype}.safetensors`);
    const values = [1, -0.5, 0.1, 65504, 2.3, 0];
    await writeSafetensors(path, [source('b', [2, 3], values), source('a', [0], [])], {
      dtype,
      metadata: { note: 'x' },
    });
    const file = openSafetensors(path);
    expect(file.metadata).toEqual({ format: 'pt', note: 'x' });
    expect(file.names).toEqual(['a', 'b']);
    const raw = file.read('b');
    expect(raw.dtype).toBe(dtype);
    const read = file.readFloat32('b').data;
    const precision = { float32: 2 ** -24, bfloat16: 2 ** -9, float16: 2 ** -11 }[dtype];
    values.forEach((value, i) => {
      expect(Math.abs(read[i]! - value)).toBeLessThanOrEqual(Math.abs(value) * precision * 1.001);
    });
    expect(file.info('b').offset % 8).toBe(0);
  });

  it('converts tensors larger than one piece', async () => {
    const size = 3_000_001;
    const data = Float32Array.from({ length: size }, (_, i) => (i % 251) - 125);
    const path = join(folder, 'large.safetensors');
    const tensor: HostTensor = { dtype: 'float32', shape: [size], data };
    await writeSafetensors(path, [{ name: 'w', shape: [size], load: () => tensor }], { dtype: 'bfloat16' });
    expect(statSync(path).size).toBeLessThan(2 * size + 200);
    const read = openSafetensors(path).readFloat32('w', new Float32Array(size)).data;
    expect(read.every((value, i) => value === data[i])).toBe(true);
  });

  it('leaves the old file and no temporary one when a tensor cannot be loaded', async () => {
    const inner = mkdtempSync(join(folder, 'failing-'));
    const path = join(inner, 'w.safetensors');
    await writeSafetensors(path, [source('a', [1], [1])]);
    const before = readFileSync(path);
    const broken: TensorSource = { ...source('b', [2], [1]), shape: [1] };
    const short: TensorSource = source('b', [2], [1]);
    for (const bad of [broken, short]) {
      await expect(writeSafetensors(path, [source('a', [1], [2]), bad])).rejects.toMatchObject({
        code: 'SHAPE_MISMATCH',
      });
    }
    expect(readFileSync(path).equals(before)).toBe(true);
    expect(readdirSync(inner)).toEqual(['w.safetensors']);
  });

  it('refuses a name that is given twice', async () => {
    const path = join(folder, 'twice.safetensors');
    await expect(writeSafetensors(path, [source('a', [1], [1]), source('a', [1], [1])])).rejects.toMatchObject({
      code: 'CHECKPOINT_WRITE_FAILED',
    });
  });

  it('reports a folder that does not exist', async () => {
    await expect(writeSafetensors(join(folder, 'no', 'x.safetensors'), [])).rejects.toMatchObject({
      code: 'CHECKPOINT_WRITE_FAILED',
    });
  });
});
