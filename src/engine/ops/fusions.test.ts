import { afterAll, describe, expect, it } from 'vitest';
import { webGpuSource } from '../../../test/helpers/device-source.ts';
import { bareSource } from '../../../test/helpers/session-source.ts';
import { Graph, type Value } from '../autodiff/graph.ts';
import { Program } from '../program.ts';
import { RandomStream } from '../random.ts';
import { openRuntime } from '../session/open-runtime.ts';
import type { Provider } from '../session/runtime.ts';
import { float32 } from '../tensor.ts';
import { Add } from './add.ts';
import { emissionOf, fuse } from './fusions.ts';
import { Gemm } from './gemm.ts';
import { Mul } from './mul.ts';
import { Neg } from './neg.ts';
import { Reshape } from './reshape.ts';
import { RmsNorm } from './rms-norm.ts';
import { Transpose } from './transpose.ts';

const runtime = await openRuntime({ threads: 1 });
const webGpu = await webGpuSource(runtime);
afterAll(() => runtime.close());

const WIDTH = 8;

/** Weights and an input [N, 8] of a graph under test. */
function leavesOf(graph: Graph) {
  return {
    x: graph.input('x', 'float32', ['N', WIDTH]),
    weight: graph.parameter('weight', [WIDTH, WIDTH]),
    bias: graph.parameter('bias', [WIDTH]),
    gain: graph.parameter('gain', [WIDTH]),
  };
}

type Build = (leaves: ReturnType<typeof leavesOf>) => Record<string, Value>;

/** What is emitted for a graph, in order. */
function emitted(build: Build, provider: Provider): string[] {
  const graph = new Graph();
  const outputs = Object.values(build(leavesOf(graph)));
  return fuse(graph.nodes.map(emissionOf), outputs, provider).map(({ type }) => type);
}

const CASES: readonly [title: string, build: Build, onCpu: string[], onWebGpu: string[]][] = [
  [
    'a transpose that moves an axis of size 1, between reshapes, is one reshape',
    ({ x }) => ({ y: Neg(Reshape(Transpose(Reshape(x, ['N', 1, 2, 4]), [0, 2, 1, 3]), ['N', 4, 2])) }),
    ['Reshape', 'Neg'],
    ['Reshape', 'Neg'],
  ],
  [
    'a transpose that moves elements stays',
    ({ x }) => ({ y: Transpose(Reshape(x, ['N', 2, 4]), [0, 2, 1]) }),
    ['Reshape', 'Transpose'],
    ['Reshape', 'Transpose'],
  ],
  [
    'a reshape that somebody else reads stays',
    ({ x }) => {
      const halves = Reshape(x, ['N', 2, 4]);
      return { y: Neg(halves), z: Neg(Reshape(halves, ['N', 4, 2])) };
    },
    ['Reshape', 'Neg', 'Reshape', 'Neg'],
    ['Reshape', 'Neg', 'Reshape', 'Neg'],
  ],
  [
    'a bias goes into the product, on either side of the sum',
    ({ x, weight, bias }) => ({ y: Add(bias, Gemm(Add(Gemm(x, weight, { transB: true }), bias), weight)) }),
    ['Gemm', 'Add', 'Gemm', 'Add'],
    ['GemmWithBias', 'GemmWithBias'],
  ],
  [
    'a product that somebody else reads keeps its bias apart',
    ({ x, weight, bias }) => {
      const product = Gemm(x, weight);
      return { y: Add(product, bias), z: product };
    },
    ['Gemm', 'Add'],
    ['Gemm', 'Add'],
  ],
  [
    'a norm takes the sum before it along, whether that is read later or not',
    ({ x, weight, gain }) => {
      const sum = Add(x, Gemm(x, weight));
      const next = Add(sum, RmsNorm(sum, gain, 1e-6));
      return { y: RmsNorm(next, gain, 1e-6) };
    },
    ['Gemm', 'Add', 'RmsNorm', 'Add', 'RmsNorm'],
    ['Gemm', 'NormWithSum', 'NormWithSum'],
  ],
  [
    'a norm of a broadcast sum stands alone',
    ({ x, bias, gain }) => ({ y: RmsNorm(Add(x, bias), gain, 1e-6) }),
    ['Add', 'RmsNorm'],
    ['Add', 'NormAlone'],
  ],
  [
    'a norm whose root is read is spelled out',
    ({ x, gain }) => {
      const y = RmsNorm(Add(x, x), gain, 1e-6);
      return { y, z: Mul(y.node!.outputs[1]!, x) };
    },
    ['Add', 'RmsNorm', 'Mul'],
    ['Add', 'RmsNorm', 'Mul'],
  ],
];

describe('fuse()', () => {
  it.each(CASES)('%s', async (_, build, onCpu, onWebGpu) => {
    expect(emitted(build, 'cpu')).toEqual(onCpu);
    expect(emitted(build, 'webgpu')).toEqual(onWebGpu);
  });

  it.skipIf(webGpu === undefined).each(CASES)('%s, with the same values', async (title, build) => {
    const stream = new RandomStream('fusions');
    const random = (...shape: number[]) =>
      float32(
        shape,
        Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => stream.normal()),
      );
    const feeds = { x: random(5, WIDTH), weight: random(WIDTH, WIDTH), bias: random(WIDTH), gain: random(WIDTH) };
    const results = [];
    for (const source of [bareSource(runtime), webGpu!]) {
      const graph = new Graph();
      const program = await Program.compile(source, graph, build(leavesOf(graph)), { key: title });
      results.push(await program.run(feeds));
    }
    const [here, there] = results as [(typeof results)[number], (typeof results)[number]];
    for (const [name, { data }] of Object.entries(here)) {
      data.forEach((value: number | bigint, i: number) => {
        expect(Number(there[name]!.data[i])).toBeCloseTo(Number(value), 4);
      });
    }
  });
});
