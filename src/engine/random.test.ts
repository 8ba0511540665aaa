import { describe, expect, it } from 'vitest';
import { philox, RandomStream } from './random.ts';

describe('philox()', () => {
  it('gives the known answers of Random123 (kat_vectors, philox4x32 10)', () => {
    expect(philox([0, 0, 0, 0], [0, 0])).toEqual([0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
    const ones = 0xffffffff;
    expect(philox([ones, ones, ones, ones], [ones, ones])).toEqual([0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]);
    expect(philox([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0])).toEqual([
      0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1,
    ]);
  });
});

describe('RandomStream', () => {
  it('repeats for equal keys and differs for others', () => {
    const draw = (...keys: (number | string)[]) => {
      const stream = new RandomStream(...keys);
      return Array.from({ length: 8 }, () => stream.uint32());
    };
    expect(draw(1, 'a', 2)).toEqual(draw(1, 'a', 2));
    const seen = new Set([draw(1, 'a', 2), draw(1, 'a', 3), draw(1, 'a', '2'), draw(2, 'a', 2)].map(String));
    expect(seen.size).toBe(4);
  });

  it('is uniform on [0, 1) and standard normal to sampling error', () => {
    const stream = new RandomStream(7);
    const uniforms = Array.from({ length: 20000 }, () => stream.uniform());
    const normals = Array.from({ length: 20000 }, () => stream.normal());
    const mean = (values: number[]) => values.reduce((a, b) => a + b, 0) / values.length;
    expect(Math.abs(mean(uniforms) - 0.5)).toBeLessThan(0.01);
    expect(Math.min(...uniforms)).toBeGreaterThanOrEqual(0);
    expect(Math.max(...uniforms)).toBeLessThan(1);
    expect(Math.abs(mean(normals))).toBeLessThan(0.03);
    expect(Math.abs(mean(normals.map((x) => x * x)) - 1)).toBeLessThan(0.05);
  });
});
