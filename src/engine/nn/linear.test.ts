import { afterAll, describe, expect, it } from 'vitest';
import { bareSource } from '../../../test/helpers/session-source.ts';
import { Transpose } from '../ops/transpose.ts';
import { Program } from '../program.ts';
import { RandomStream } from '../random.ts';
import { openRuntime } from '../session/open-runtime.ts';
import { float32, type HostTensor, sizeOf } from '../tensor.ts';
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

describe.each(['rows', 'columns', 'turned'] as const)('a layer with its weight first, by %s', (form) => {
  it.each(['q', 'k'])('gives what it gives with its weight last, adapter included: %s', async (name) => {
    const stream = new RandomStream('linear');
    const weights = new Map<string, HostTensor<'float32'>>();
    const run = async (weightsFirst: boolean) => {
      const graph = new ModelGraph(LAYOUT, { weightsFirst });
      const x = graph.input('x', 'float32', [5, 3]);
      const columns = () =>
        form === 'turned'
          ? linearByColumns(graph, Transpose(x, [1, 0]), name, 150, { isTurned: true })
          : linearByColumns(graph, x, name, 150);
      const isByRows = form === 'rows' || !weightsFirst;
      const y = isByRows ? linear(graph, x, name, 150, { bias: form === 'rows' }) : Transpose(columns(), [1, 0]);
      const program = await Program.compile(bareSource(runtime), graph, { y }, { key: `${form}:${weightsFirst}` });
      for (const { name: input, shape } of program.feeds) {
        if (weights.has(input)) continue;
        const data = Float32Array.from({ length: sizeOf(shape as number[]) }, () => stream.normal());
        weights.set(input, float32(shape as number[], data));
      }
      return (await program.run(Object.fromEntries(weights)))['y']!;
    };
    const [last, first] = [await run(false), await run(true)];
    expect(first.shape).toEqual([5, 150]);
    (first.data as Float32Array).forEach((value, i) => {
      expect(value).toBeCloseTo(Number(last.data[i]), 5);
    });
  });
});
