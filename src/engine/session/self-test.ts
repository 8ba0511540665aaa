/** Proves that a runtime computes, before anything relies on it. */
import { Fr1Error } from '../../errors/fr1-error.ts';
import { float32 } from '../tensor.ts';
import type { Runtime } from './runtime.ts';

/**
 * z = x + y over x, y: float32 [n], as an ONNX model (IR 8, opset 13) of one node named "sum".
 *
 * Fields: ir_version (1) = 8; graph (7) = { node (1) = { input (1), output (2), name (3), op_type (4) }, name (2),
 * input (11), output (12) }; opset_import (8) = { version (2) = 13 }.
 */
function addModel(): Uint8Array {
  const value = (name: string) =>
    message(1, text(name), 2, message(1, [...message(1, 1), ...message(2, message(1, message(2, text('n'))))]));
  const node = message(1, text('x'), 1, text('y'), 2, text('z'), 3, text('sum'), 4, text('Add'));
  const graph = message(1, node, 2, text('self-test'), 11, value('x'), 11, value('y'), 12, value('z'));
  return Uint8Array.from(message(1, 8, 7, graph, 8, message(2, 13)));
}

/** Field number and content in turn: a number is a varint, bytes (at most 127) are length-delimited. */
function message(...fields: (number | number[])[]): number[] {
  const bytes: number[] = [];
  for (let i = 0; i < fields.length; i += 2) {
    const tag = fields[i] as number;
    const content = fields[i + 1]!;
    if (typeof content === 'number') bytes.push(tag << 3, content);
    else bytes.push((tag << 3) | 2, content.length, ...content);
  }
  return bytes;
}

function text(value: string): number[] {
  return [...new TextEncoder().encode(value)];
}

/**
 * Makes a session, reads its values, runs it with a given and with a fresh output, and compares.
 *
 * @throws RUNTIME_UNAVAILABLE when anything is not as it must be
 */
export async function selfTest(runtime: Runtime): Promise<void> {
  const session = await runtime.createSession(addModel(), { logId: 'self-test', threads: 1 });
  try {
    const declared = [...session.inputs, ...session.outputs].map(
      ({ name, dtype, shape }) => `${name}:${dtype}${shape}`,
    );
    expectEqual(declared, ['x:float32-1', 'y:float32-1', 'z:float32-1']);
    const x = float32([3], Float32Array.of(1, 2, 3));
    const y = float32([3], Float32Array.of(10, 20, 30));
    const z = float32([3]);
    const fresh = await session.run({ x, y }, { z: null });
    await session.run({ x, y }, { z });
    expectEqual([...(fresh['z']?.data ?? []), ...z.data], [11, 22, 33, 11, 22, 33]);
  } finally {
    await session.release();
  }
}

function expectEqual(got: readonly unknown[], expected: readonly unknown[]): void {
  if (String(got) !== String(expected)) {
    throw new Fr1Error('RUNTIME_UNAVAILABLE', `the self-test of onnxruntime gave ${got} instead of ${expected}`);
  }
}
