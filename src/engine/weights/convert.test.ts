import { describe, expect, it } from 'vitest';
import {
  bfloat16ToFloat32,
  float16ToFloat32,
  float32ToBfloat16,
  float32ToFloat16,
  fromFloat32,
  toFloat32,
} from './convert.ts';

const ALL = Uint16Array.from({ length: 65536 }, (_, i) => i);

/** Value of a 16-bit float from its definition, in float64. */
function valueFromBits(bits: number, exponentBits: number, fractionBits: number): number {
  const sign = bits >>> 15 === 1 ? -1 : 1;
  const exponent = (bits >>> fractionBits) & (2 ** exponentBits - 1);
  const fraction = bits & (2 ** fractionBits - 1);
  const bias = 2 ** (exponentBits - 1) - 1;
  if (exponent === 2 ** exponentBits - 1) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  if (exponent === 0) return sign * fraction * 2 ** (1 - bias - fractionBits);
  return sign * (1 + fraction / 2 ** fractionBits) * 2 ** (exponent - bias);
}

const FORMATS = [
  { name: 'float16', exponentBits: 5, fractionBits: 10, widen: float16ToFloat32, narrow: float32ToFloat16 },
  { name: 'bfloat16', exponentBits: 8, fractionBits: 7, widen: bfloat16ToFloat32, narrow: float32ToBfloat16 },
] as const;

describe.each(FORMATS)('$name', ({ exponentBits, fractionBits, widen, narrow }) => {
  it('widens all 65536 patterns to the value that the format defines', () => {
    const values = widen(ALL);
    const wrong: number[] = [];
    for (let bits = 0; bits < 65536; bits++) {
      if (!Object.is(values[bits], valueFromBits(bits, exponentBits, fractionBits))) wrong.push(bits);
    }
    expect(wrong).toEqual([]);
  });

  it('returns every pattern that is no NaN unchanged after a round trip, and keeps NaN a NaN', () => {
    const values = widen(ALL);
    const back = narrow(values);
    const wrong: number[] = [];
    for (let bits = 0; bits < 65536; bits++) {
      const same = Number.isNaN(values[bits]!)
        ? Number.isNaN(valueFromBits(back[bits]!, exponentBits, fractionBits)) && back[bits]! >>> 15 === bits >>> 15
        : back[bits] === bits;
      if (!same) wrong.push(bits);
    }
    expect(wrong).toEqual([]);
  });

  it('rounds between each pair of neighbours to the nearest, ties to the even pattern', () => {
    const infinite = (2 ** exponentBits - 1) << fractionBits;
    const wrong: string[] = [];
    const probe = new Float32Array(1);
    const bits = new Int32Array(probe.buffer);
    for (let low = 0; low < infinite; low++) {
      const below = valueFromBits(low, exponentBits, fractionBits);
      // The step past the largest finite value rounds as if the format went on.
      const next = low + 1 === infinite ? 2 * below - valueFromBits(low - 1, exponentBits, fractionBits) : undefined;
      const above = next ?? valueFromBits(low + 1, exponentBits, fractionBits);
      probe[0] = (below + above) / 2;
      if (narrow(probe)[0] !== (low % 2 === 0 ? low : low + 1)) wrong.push(`tie after ${low}`);
      const tie = bits[0]!;
      bits[0] = tie + 1;
      if (narrow(probe)[0] !== low + 1) wrong.push(`above the tie after ${low}`);
      bits[0] = tie - 1;
      if (narrow(probe)[0] !== low) wrong.push(`below the tie after ${low}`);
      probe[0] = -probe[0]!;
      if (narrow(probe)[0] !== (low | 0x8000)) wrong.push(`negative after ${low}`);
    }
    expect(wrong).toEqual([]);
  });

  it('turns values beyond the range into infinities and keeps the sign of zero', () => {
    const infinite = (2 ** exponentBits - 1) << fractionBits;
    const source = Float32Array.of(3.4028234663852886e38, -3.4028234663852886e38, Number.POSITIVE_INFINITY, -0);
    expect([...narrow(source)]).toEqual([infinite, infinite | 0x8000, infinite, 0x8000]);
  });
});

describe('bfloat16', () => {
  it('does not turn a NaN with a low payload into an infinity', () => {
    const bits = Uint32Array.of(0x7f800001, 0xff800001);
    expect([...float32ToBfloat16(new Float32Array(bits.buffer))]).toEqual([0x7fc0, 0xffc0]);
  });
});

describe('toFloat32() and fromFloat32()', () => {
  it('keep float32 memory and convert the others', () => {
    const data = Float32Array.of(1, -2.5);
    expect(toFloat32({ dtype: 'float32', shape: [2], data })).toBe(data);
    expect(fromFloat32(data, 'float32')).toBe(data);
    for (const dtype of ['float16', 'bfloat16'] as const) {
      const narrow = fromFloat32(data, dtype) as Uint16Array;
      expect([...toFloat32({ dtype, shape: [2], data: narrow })]).toEqual([1, -2.5]);
    }
  });

  it('refuse integers', () => {
    const tensor = { dtype: 'int32', shape: [1], data: Int32Array.of(1) } as const;
    expect(() => toFloat32(tensor)).toThrow(expect.objectContaining({ code: 'DTYPE_MISMATCH' }));
  });
});
