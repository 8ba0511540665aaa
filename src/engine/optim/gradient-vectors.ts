/** Gradients in the layout of the weights on a device: what the graph of a training step puts out there. */
import { backward } from '../autodiff/backward.ts';
import type { Value } from '../autodiff/graph.ts';
import { Concat } from '../ops/concat.ts';
import { Expand } from '../ops/expand.ts';
import { Mul } from '../ops/mul.ts';
import { Reshape } from '../ops/reshape.ts';
import { ScatterRows } from '../ops/scatter-rows.ts';
import { sizeOf } from '../tensor.ts';
import type { ParameterGroup } from './device-parameters.ts';

/** Operands of one Concat: WebGPU binds a buffer for each, and not all adapters bind more than eight. */
const JOINED = 7;

/**
 * Zero where the loss does not depend on a weight.
 *
 * Rows of embedding tables are added in the graph, at the int64 input `ids_rows` [N, 1]: the ids as an index of rows.
 * Where some of them do not count, `ids_counted` [N, 1] is 0 for these and 1 for the others.
 *
 * @param loss a scalar over tokens whose ids are the input `ids` [N]
 * @param options.isJoined true: vectors `gradients:0`, `gradients:1`, ... [length of the group]; false: a tensor
 *   `gradient:<name>` for each weight
 */
export function gradientOutputs(
  loss: Value,
  groups: readonly ParameterGroup[],
  { isJoined, hasPadding }: { readonly isJoined: boolean; readonly hasPadding: boolean },
): Record<string, Value> {
  const { graph } = loss;
  const zeros = (shape: readonly number[]) => Expand(graph.scalar(0), shape);
  const parameters = groups.flatMap((group) => group.parameters.flatMap(({ name }) => graph.find(name) ?? []));
  const { dense, sparse } = backward(loss, parameters);
  const gradientOf = (name: string, shape: readonly number[]): Value => {
    const parameter = graph.find(name);
    const rows = (parameter && sparse.get(parameter)) ?? [];
    let sum = (parameter && dense.get(parameter)) ?? zeros(shape);
    for (const part of rows) {
      const index = graph.find('ids_rows') ?? graph.input('ids_rows', 'int64', [part.ids.dim(0), 1]);
      const counted = graph.find('ids_counted') ?? graph.input('ids_counted', 'float32', [part.ids.dim(0), 1]);
      sum = ScatterRows(sum, index, hasPadding ? Mul(part.rows, counted) : part.rows, { add: true });
    }
    return sum;
  };
  if (!isJoined) {
    return Object.fromEntries(
      groups.flatMap((group) =>
        group.parameters.map(({ name, shape }) => [`gradient:${name}`, gradientOf(name, shape)] as const),
      ),
    );
  }
  return Object.fromEntries(
    groups.map(({ parameters, from, to, length }, i) => {
      const parts = parameters.map(({ name, shape }) => Reshape(gradientOf(name, shape), [sizeOf(shape)]));
      const padding = length - (to - from);
      if (padding > 0) parts.push(zeros([padding]));
      return [`gradients:${i}`, join(parts)];
    }),
  );
}

/** Vectors end to end, a few at a time. */
function join(parts: readonly Value[]): Value {
  if (parts.length === 1) return parts[0]!;
  const joined: Value[] = [];
  for (let at = 0; at < parts.length; at += JOINED) {
    const some = parts.slice(at, at + JOINED);
    joined.push(some.length === 1 ? some[0]! : Concat(some, 0));
  }
  return join(joined);
}
