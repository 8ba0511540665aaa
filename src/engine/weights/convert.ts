/**
 * Bit-exact conversions between float32 and the two 16-bit floats of checkpoints, in bulk.
 *
 * float16 is IEEE binary16; bfloat16 is the upper half of a float32. Narrowing rounds to nearest, ties to even;
 * values beyond the range become infinite; NaN stays NaN. 16-bit values are raw bits in a Uint16Array.
 */
import { Fr1Error } from '../../errors/fr1-error.ts';
import type { HostTensor } from '../tensor.ts';

/** Element types of weights on disk. */
export type FloatDType = 'float32' | 'float16' | 'bfloat16';

let halfBits: Uint32Array | undefined;

/** float32 bit pattern of every float16 bit pattern. */
function halfTable(): Uint32Array {
  if (halfBits !== undefined) return halfBits;
  const table = new Uint32Array(65536);
  for (let half = 0; half < 65536; half++) {
    const sign = (half & 0x8000) << 16;
    const exponent = (half >>> 10) & 0x1f;
    const fraction = half & 0x3ff;
    let bits: number;
    if (exponent === 0x1f) {
      bits = 0x7f800000 | (fraction << 13);
    } else if (exponent !== 0) {
      bits = ((exponent + 112) << 23) | (fraction << 13);
    } else if (fraction === 0) {
      bits = 0;
    } else {
      // A subnormal half is a normal float32: move the leading one up to the implicit bit.
      const shift = Math.clz32(fraction) - 21;
      bits = ((113 - shift) << 23) | (((fraction << shift) & 0x3ff) << 13);
    }
    table[half] = (sign | bits) >>> 0;
  }
  halfBits = table;
  return table;
}

function bitsOf(values: Float32Array): Uint32Array {
  return new Uint32Array(values.buffer, values.byteOffset, values.length);
}

export function bfloat16ToFloat32(
  source: Uint16Array,
  target: Float32Array = new Float32Array(source.length),
): Float32Array {
  const bits = bitsOf(target);
  for (let i = 0; i < source.length; i++) bits[i] = source[i]! << 16;
  return target;
}

export function float16ToFloat32(
  source: Uint16Array,
  target: Float32Array = new Float32Array(source.length),
): Float32Array {
  const bits = bitsOf(target);
  const table = halfTable();
  for (let i = 0; i < source.length; i++) bits[i] = table[source[i]!]!;
  return target;
}

export function float32ToBfloat16(
  source: Float32Array,
  target: Uint16Array = new Uint16Array(source.length),
): Uint16Array {
  const bits = bitsOf(source);
  for (let i = 0; i < bits.length; i++) {
    const value = bits[i]!;
    if ((value & 0x7fffffff) > 0x7f800000) {
      target[i] = (value >>> 16) | 0x40; // a NaN whose payload lies in the dropped half must not become infinite
    } else {
      target[i] = (value + 0x7fff + ((value >>> 16) & 1)) >>> 16;
    }
  }
  return target;
}

export function float32ToFloat16(
  source: Float32Array,
  target: Uint16Array = new Uint16Array(source.length),
): Uint16Array {
  const bits = bitsOf(source);
  for (let i = 0; i < bits.length; i++) target[i] = halfFromBits(bits[i]!);
  return target;
}

/** float16 bits nearest to the float32 with the given bits. */
function halfFromBits(bits: number): number {
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00 | ((magnitude >>> 13) & 0x3ff);
  // 65520 is half-way between the largest half (65504) and the next power of two.
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  if (magnitude >= 0x38800000) {
    // Normal half: re-bias the exponent, then round away 13 fraction bits; a carry moves into the exponent as it should.
    const rebiased = magnitude - 0x38000000;
    return sign | ((rebiased + 0xfff + ((rebiased >>> 13) & 1)) >>> 13);
  }
  // Half of the smallest subnormal (2^-25) ties to zero.
  if (magnitude <= 0x33000000) return sign;
  const shift = 126 - (magnitude >>> 23);
  const fraction = (magnitude & 0x7fffff) | 0x800000;
  const kept = fraction >>> shift;
  const rest = fraction & ((1 << shift) - 1);
  const halfway = 1 << (shift - 1);
  return sign | (rest > halfway || (rest === halfway && (kept & 1) === 1) ? kept + 1 : kept);
}

/**
 * Values of a float tensor as float32; the tensor's own memory where it is float32 already and no target is given.
 *
 * @throws DTYPE_MISMATCH for an integer or boolean tensor
 */
export function toFloat32(tensor: HostTensor, target?: Float32Array): Float32Array {
  switch (tensor.dtype) {
    case 'float32': {
      const data = tensor.data as Float32Array;
      if (target === undefined) return data;
      target.set(data);
      return target;
    }
    case 'bfloat16':
      return bfloat16ToFloat32(tensor.data as Uint16Array, target);
    case 'float16':
      return float16ToFloat32(tensor.data as Uint16Array, target);
    default:
      throw new Fr1Error('DTYPE_MISMATCH', `a ${tensor.dtype} tensor holds no floating-point values`);
  }
}

/** Narrows float32 values to the given type; the same memory for float32. */
export function fromFloat32(values: Float32Array, dtype: FloatDType): Float32Array | Uint16Array {
  switch (dtype) {
    case 'float32':
      return values;
    case 'bfloat16':
      return float32ToBfloat16(values);
    case 'float16':
      return float32ToFloat16(values);
    default:
      return dtype satisfies never;
  }
}
