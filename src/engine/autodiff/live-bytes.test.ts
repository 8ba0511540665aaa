import { describe, expect, it } from 'vitest';
import { Add } from '../ops/add.ts';
import { Cast } from '../ops/cast.ts';
import { Gemm } from '../ops/gemm.ts';
import { Reshape } from '../ops/reshape.ts';
import { Graph } from './graph.ts';
import { peakLiveBytes } from './live-bytes.ts';

const sizes = new Map([['N', 100]]);
const KILO = 4 * 100 * 10;

describe('peakLiveBytes()', () => {
  it('counts what is alive at the worst moment, not what was, and no output', () => {
    const graph = new Graph();
    let x = graph.input('x', 'float32', ['N', 10]);
    for (let i = 0; i < 5; i++) x = Gemm(x, graph.parameter(`w${i}`, [10, 10]));
    // One product is read while the next is written.
    expect(peakLiveBytes(graph, { x }, sizes)).toBe(2 * KILO);
  });

  it('counts elementwise operators like others, and reshaping for nothing', () => {
    const graph = new Graph();
    const x = graph.input('x', 'float32', ['N', 10]);
    const y = Gemm(x, graph.parameter('w', [10, 10]));
    const z = Add(Reshape(y, [10, 'N']), graph.input('b', 'float32', [10, 'N']));
    const last = Gemm(z, graph.parameter('v', ['N', 10]));
    expect(peakLiveBytes(graph, { last }, sizes)).toBe(2 * KILO);
  });

  it('widens all narrow weights first', () => {
    const graph = new Graph();
    let x = graph.input('x', 'float32', ['N', 10]);
    for (let i = 0; i < 3; i++) x = Gemm(x, Cast(graph.parameter(`w${i}`, [10, 10], 'bfloat16'), 'float32'));
    // The last weight, and the product that it is multiplied with; two of three weights while two products are alive.
    expect(peakLiveBytes(graph, { x }, sizes)).toBe(2 * 400 + 2 * KILO);
  });
});
