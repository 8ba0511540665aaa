import { afterAll, describe, expect, it } from 'vitest';
import { bareSource } from '../../../test/helpers/session-source.ts';
import { Transpose } from '../ops/transpose.ts';
import { Program } from '../program.ts';
import { RandomStream } from '../random.ts';
import { openRuntime } from '../session/open-runtime.ts';
import { float32, type HostTensor } from '../tensor.ts';
import { linear, linearByColumns, linears, partsOfJoined } from './linear.ts';
import { ModelGraph, type WeightLayout } from './model-graph.ts';

const runtime = await openRuntime({ threads: 1 });
afterAll(() => runtime.close());

const SIZES = { q: 6, k: 2, v: 4 };
const LAYOUT: WeightLayout = {
  dtypeOf: () => 'float32',
  adapterOf: (module) => (module === 'k' ? { rank: 2, scale: 0.5, dropout: 0 } : undefined),
};

describe('linears()', () => {
  it('gives the same from joined weights as from those of each layer, adapters included', async () => {
    const stream = new RandomStream('linears');
    const weights = new Map<string, HostTensor<'float32'>>();
    const weight = (name: string, shape: readonly number[]) => {
      const data = Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => stream.normal());
      const tensor = weights.get(name) ?? float32(shape, data);
      weights.set(name, tensor);
      return tensor;
    };
    const results = [];
    for (const joinsWeights of [false, true]) {
      const graph = new ModelGraph(LAYOUT, { joinsWeights });
      const outputs = linears(graph, graph.input('x', 'float32', ['N', 3]), Object.entries(SIZES), { bias: true });
      const program = await Program.compile(bareSource(runtime), graph, Object.fromEntries(outputs.entries()), {
        key: String(joinsWeights),
      });
      const feeds = program.feeds.map(({ name, shape }) => {
        const parts = partsOfJoined(name);
        if (parts.length === 1) return [name, weight(name, name === 'x' ? [5, 3] : (shape as number[]))] as const;
        const data = parts.flatMap((part) => [...weights.get(part)!.data]);
        return [name, float32(shape as number[], Float32Array.from(data))] as const;
      });
      expect(feeds.some(([name]) => name === 'q+k+v.weight')).toBe(joinsWeights);
      results.push(await program.run(Object.fromEntries(feeds)));
    }
    const [apart, joined] = results as [(typeof results)[number], (typeof results)[number]];
    for (const [name, { data, shape }] of Object.entries(apart)) {
      expect(joined[name]!.shape).toEqual(shape);
      (data as Float32Array).forEach((value, i) => {
        expect(Number(joined[name]!.data[i])).toBeCloseTo(value, 5);
      });
    }
  });
});

describe('linear()', () => {
  it.each(['q', 'k'])('gives the same with the weight first, for rows and for columns: %s', async (name) => {
    const stream = new RandomStream('linear');
    const weights = new Map<string, HostTensor<'float32'>>();
    const weight = (input: string, shape: readonly number[]) => {
      const data = Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => stream.normal());
      const tensor = weights.get(input) ?? float32(shape, data);
      weights.set(input, tensor);
      return tensor;
    };
    const run = async (weightsFirst: boolean, form: 'rows' | 'columns' | 'turned') => {
      const graph = new ModelGraph(LAYOUT, { weightsFirst });
      const x = graph.input('x', 'float32', ['N', 3]);
      const rows = linear(graph, x, name, 4, { bias: true });
      const given = form === 'turned' ? Transpose(x, [1, 0]) : x;
      const columns = linearByColumns(graph, given, name, 4, { bias: true, isTurned: form === 'turned' });
      const y = form === 'rows' ? rows : Transpose(columns, [1, 0]);
      const program = await Program.compile(bareSource(runtime), graph, { y }, { key: `${weightsFirst}${form}` });
      const feeds = program.feeds.map((feed) => [
        feed.name,
        weight(feed.name, feed.name === 'x' ? [5, 3] : (feed.shape as number[])),
      ]);
      return (await program.run(Object.fromEntries(feeds)))['y']!;
    };
    const expected = await run(false, 'rows');
    expect(expected.shape).toEqual([5, 4]);
    for (const form of ['rows', 'columns', 'turned'] as const) {
      const { data, shape } = await run(true, form);
      expect(shape).toEqual([5, 4]);
      (data as Float32Array).forEach((value, i) => {
        expect(value).toBeCloseTo(Number(expected.data[i]), 5);
      });
    }
  });
});
