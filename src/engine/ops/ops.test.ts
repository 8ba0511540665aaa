import { afterAll, describe, expect, it } from 'vitest';
import { webGpuSource } from '../../../test/helpers/device-source.ts';
import { bareSource } from '../../../test/helpers/session-source.ts';
import { backward, type SparseGradient } from '../autodiff/backward.ts';
import { Graph, type Value } from '../autodiff/graph.ts';
import { Program, type SessionSource } from '../program.ts';
import { RandomStream } from '../random.ts';
import { openRuntime } from '../session/open-runtime.ts';
import { type HostTensor, sizeOf } from '../tensor.ts';
import { OPERATOR_CASES, type OperatorCase } from './cases.ts';
import { OPERATORS } from './index.ts';
import { Mul } from './mul.ts';
import { ReduceSum } from './reduce-sum.ts';

const runtime = await openRuntime({ threads: 1 });
const webGpu = await webGpuSource(runtime);
const DEVICES: readonly [string, SessionSource | undefined][] = [
  ['cpu', bareSource(runtime)],
  ['webgpu', webGpu],
];

afterAll(() => runtime.close());

function randomInputs(operatorCase: OperatorCase, stream: RandomStream): Float32Array[] {
  const [low, high] = operatorCase.range ?? [-2, 2];
  return operatorCase.inputs.map((shape) =>
    Float32Array.from({ length: sizeOf(shape) }, () => stream.between(low, high)),
  );
}

function build(operatorCase: OperatorCase) {
  const graph = new Graph();
  const inputs = operatorCase.inputs.map((shape, i) => graph.parameter(`x${i}`, operatorCase.symbolic?.[i] ?? shape));
  const data: Record<string, Value> = {};
  for (const [name, tensor] of Object.entries(operatorCase.data ?? {})) {
    data[name] = graph.input(name, tensor.dtype, tensor.shape);
  }
  return { graph, inputs, data, output: operatorCase.build(inputs, data, graph) };
}

describe('OPERATORS', () => {
  it('has test cases for each operator, and no cases without one', () => {
    expect(Object.keys(OPERATOR_CASES).sort()).toEqual(OPERATORS.map((operator) => operator.type).sort());
  });
});

describe.each(OPERATORS.map((operator) => operator.type))('%s', (type) => {
  it.for(
    DEVICES.flatMap(([device, source]) =>
      (OPERATOR_CASES[type] ?? []).map((operatorCase) => ({ title: operatorCase.title, device, source, operatorCase })),
    ),
  )(
    '$title: value, shape and gradient are right on $device',
    async ({ title, device, source, operatorCase }, { skip }) => {
      if (source === undefined) return skip(`no ${device} here`);
      const { graph, inputs, data, output } = build(operatorCase);
      expect(graph.nodes.some((node) => node.operator.type === type)).toBe(true);
      const weights = graph.input('weights', 'float32', output.shape);
      const loss = ReduceSum(
        Mul(output, weights),
        output.shape.map((_, axis) => axis),
      );
      const rule = graph.nodes.find((node) => node.operator.type === type)!.operator.gradient;
      if (typeof rule !== 'function' && 'forbidden' in rule && type !== 'Embedding') {
        expect(() => backward(loss, inputs)).toThrow(rule.forbidden);
      }
      const gradients =
        typeof rule === 'function' || 'zero' in rule || type === 'Embedding'
          ? backward(loss, inputs)
          : { dense: new Map<Value, Value>(), sparse: new Map<Value, readonly SparseGradient[]>() };
      const outputs: Record<string, Value> = { output, loss };
      inputs.forEach((input, i) => {
        const dense = gradients.dense.get(input);
        if (dense) outputs[`d${i}`] = dense;
        gradients.sparse.get(input)?.forEach((sparse, k) => {
          outputs[`rows${i}.${k}`] = sparse.rows;
          outputs[`ids${i}.${k}`] = sparse.ids;
        });
      });
      const program = await Program.compile(source, graph, outputs, { key: `${type}:${title}` });
      const stream = new RandomStream('ops', type, title);
      const values = randomInputs(operatorCase, stream);
      const reference = Float64Array.from(
        operatorCase.reference(values.map((x, i) => ({ shape: operatorCase.inputs[i]!, data: Float64Array.from(x) }))),
      );
      const weightData = Float32Array.from({ length: reference.length }, () => stream.normal());
      const run = async (xs: readonly Float32Array[]) => {
        const sizes = (await shapeOf(operatorCase, output)) as readonly number[];
        const feeds: Record<string, HostTensor> = { ...operatorCase.data };
        xs.forEach((x, i) => {
          feeds[`x${i}`] = { dtype: 'float32', shape: operatorCase.inputs[i]!, data: x };
        });
        feeds['weights'] = { dtype: 'float32', shape: sizes, data: weightData };
        const used = Object.fromEntries(program.feeds.map((feed) => [feed.name, feeds[feed.name]!]));
        return program.run(used);
      };
      const result = await run(values);
      expect(result['output']!.data.length).toBe(reference.length);
      reference.forEach((expected, i) => {
        const tolerance = type === 'Cast' ? 2e-3 : 2e-5;
        expect(Math.abs(Number(result['output']!.data[i]) - expected)).toBeLessThan(
          tolerance * (1 + Math.abs(expected)),
        );
      });

      if (
        typeof graph.nodes.find((node) => node.operator.type === type)!.operator.gradient !== 'function' &&
        type !== 'Embedding'
      ) {
        expect(Object.keys(outputs).filter((name) => name.startsWith('d'))).toEqual([]);
        return;
      }
      // Directional derivative of the reference in float64, against <gradient, direction>.
      const direction = values.map((x) => Float64Array.from({ length: x.length }, () => stream.normal()));
      const step = 1e-5;
      const objective = (sign: number) => {
        const moved = values.map((x, i) => Float64Array.from(x, (value, k) => value + sign * step * direction[i]![k]!));
        const y = operatorCase.reference(moved.map((x, i) => ({ shape: operatorCase.inputs[i]!, data: x })));
        let sum = 0;
        for (let k = 0; k < weightData.length; k++) sum += y[k]! * weightData[k]!;
        return sum;
      };
      const expected = (objective(1) - objective(-1)) / (2 * step);
      let actual = 0;
      let scale = 0;
      values.forEach((x, i) => {
        const gradient = result[`d${i}`]
          ? Float64Array.from(result[`d${i}`]!.data as Float32Array)
          : new Float64Array(x.length);
        const rows = result[`rows${i}.0`];
        if (rows) {
          const ids = result[`ids${i}.0`]!.data;
          const width = rows.shape[1]!;
          for (let r = 0; r < ids.length; r++) {
            for (let c = 0; c < width; c++) {
              const at = Number(ids[r]) * width + c;
              gradient[at] = gradient[at]! + Number(rows.data[r * width + c]);
            }
          }
        }
        gradient.forEach((value, k) => {
          actual += value * direction[i]![k]!;
          scale += Math.abs(value * direction[i]![k]!);
        });
      });
      expect(scale).toBeGreaterThan(0);
      expect(Math.abs(actual - expected)).toBeLessThan(1e-4 * (scale + 1e-3) + (type === 'Cast' ? 1e-2 : 0));
      await program.release();
      expect(data).toBeDefined();
    },
  );
});

async function shapeOf(operatorCase: OperatorCase, output: Value): Promise<readonly number[]> {
  const sizes = new Map<string, number>();
  operatorCase.symbolic?.forEach((shape, i) => {
    shape.forEach((dim, axis) => {
      if (typeof dim === 'string' && !dim.includes('*')) sizes.set(dim, operatorCase.inputs[i]![axis]!);
    });
  });
  return output.shape.map((dim) => (typeof dim === 'number' ? dim : sizes.get(dim)!));
}
