import { expect, it } from 'vitest';
import { bareSource } from '../../../test/helpers/session-source.ts';
import { Graph, type Value } from '../autodiff/graph.ts';
import { Add } from '../ops/add.ts';
import { Silu } from '../ops/silu.ts';
import { Program } from '../program.ts';
import { openRuntime } from '../session/open-runtime.ts';
import { float32 } from '../tensor.ts';

it('keeps the names of outputs apart from those of intermediate values and constants', async () => {
  const graph = new Graph();
  const x = graph.input('x', 'float32', ['N']);
  let y: Value = x;
  const outputs: Record<string, Value> = {};
  for (let i = 0; i < 8; i++) {
    y = Add(Silu(y), graph.constant(float32([1], Float32Array.of(i))));
    for (const letter of ['c', 't', 'v']) outputs[`${letter}${i}`] = Add(y, y);
  }
  const runtime = await openRuntime({ threads: 1 });
  const program = await Program.compile(bareSource(runtime), graph, outputs, { key: 'names' });
  const result = await program.run({ x: float32([1], Float32Array.of(0.5)) });
  let expected = 0.5;
  for (let i = 0; i < 8; i++) {
    expected = expected / (1 + Math.exp(-expected)) + i;
    for (const letter of ['c', 't', 'v']) expect(result[`${letter}${i}`]!.data[0]).toBeCloseTo(2 * expected, 4);
  }
  await runtime.close();
});
