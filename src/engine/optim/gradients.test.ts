import { describe, expect, it } from 'vitest';
import { clipGlobalNorm, GradientSum, globalNorm } from './gradients.ts';
import { type FlatBuffer, ParameterStore } from './parameter-store.ts';

/** More than one block, and not a whole number of them. */
const SIZE = 600_000;

/** Values of many magnitudes, so that rounding shows. */
function values(seed: number): Float32Array {
  return Float32Array.from({ length: SIZE }, (_, i) => Math.sin(i * 12.9898 + seed) * 10 ** ((i % 13) - 9));
}

describe('GradientSum', () => {
  it('adds parts with the bits of a loop', async () => {
    const store = new ParameterStore([{ name: 'w', shape: [SIZE], decay: true }]);
    const sum = new GradientSum(store);
    const parts = [values(1), values(2), values(3)];
    for (const part of parts) await sum.add(async (into) => (into as FlatBuffer).set(part));
    const expected = parts[0]!.map((value, i) => Math.fround(Math.fround(value + parts[1]![i]!) + parts[2]![i]!));
    expect(Buffer.from((sum.value as FlatBuffer).buffer).equals(Buffer.from(expected.buffer))).toBe(true);
    sum.clear();
    await sum.add(async (into) => (into as FlatBuffer).set(parts[2]!));
    expect((sum.value as FlatBuffer)[7]).toBe(parts[2]![7]);
  });
});

describe('clipGlobalNorm()', () => {
  it('scales to the norm asked for and gives the one before, with the bits of a loop', async () => {
    const gradients = values(4);
    const before = gradients.slice();
    let squares = 0;
    for (const value of before) squares += value * value;
    const norm = Math.sqrt(squares);
    expect(await clipGlobalNorm(gradients, 1)).toBe(norm);
    const factor = 1 / (norm + 1e-6);
    expect(gradients.every((value, i) => Object.is(value, Math.fround(before[i]! * factor)))).toBe(true);
    expect(await globalNorm(gradients)).toBeCloseTo(1, 5);
    const small = gradients.slice();
    await clipGlobalNorm(small, 2);
    expect(small).toEqual(gradients);
  });
});
