/**
 * Reverse-mode differentiation: extends a graph with the gradients of a scalar.
 *
 * Embedding tables get their gradient as rows (`SparseGradient`): adding rows into a table inside the graph would need
 * ScatterND with repeated indices, which is a data race in onnxruntime's CPU kernel.
 */
import { Fr1Error } from '../../errors/fr1-error.ts';
import { Add } from '../ops/add.ts';
import { EMBEDDING } from '../ops/embedding.ts';
import { Expand } from '../ops/expand.ts';
import type { Value } from './graph.ts';

/** One contribution to a table's gradient: row `rows[i]` is added at index `ids[i]`. */
export interface SparseGradient {
  /** int32 or int64 [N] */
  readonly ids: Value;
  /** float32 [N, C] */
  readonly rows: Value;
}

export interface Gradients {
  readonly dense: ReadonlyMap<Value, Value>;
  readonly sparse: ReadonlyMap<Value, readonly SparseGradient[]>;
}

/**
 * Gradients of `loss` with respect to `targets`.
 *
 * @param loss float32, one element
 * @throws GRADIENT_FORBIDDEN when a path to a target passes an operator that must not be differentiated
 */
export function backward(loss: Value, targets: readonly Value[]): Gradients {
  if (!loss.shape.every((dim) => dim === 1)) {
    throw new Fr1Error('SHAPE_MISMATCH', `the gradient starts at a scalar, not at ${loss.describe()}`);
  }
  const one = loss.graph.scalar(1);
  return pullBack(new Map([[loss, loss.rank === 0 ? one : Expand(one, loss.shape)]]), targets);
}

/**
 * Gradients with respect to `targets` of whatever has the given gradients with respect to values of the graph.
 *
 * @param seeds value -> gradient of the same shape; at least one
 * @throws GRADIENT_FORBIDDEN when a path to a target passes an operator that must not be differentiated
 */
export function pullBack(seeds: ReadonlyMap<Value, Value>, targets: readonly Value[]): Gradients {
  const [{ graph }] = [...seeds.keys()] as [Value];
  const wanted = new Set(targets);
  const reaches = new Set<Value>(targets);
  const path = graph.nodes.filter((node) => {
    const reached = node.inputs.some((input) => reaches.has(input));
    if (reached) for (const output of node.outputs) reaches.add(output);
    return reached;
  });

  const gradients = new Map<Value, Value>();
  const sparse = new Map<Value, SparseGradient[]>();
  const accumulate = (value: Value, gradient: Value) => {
    const sum = gradients.get(value);
    gradients.set(value, sum ? Add(sum, gradient) : gradient);
  };
  for (const [value, gradient] of seeds) accumulate(value, gradient);

  for (const node of path.reverse()) {
    const outputGradients = node.outputs.map((output) => gradients.get(output) ?? null);
    if (outputGradients.every((gradient) => gradient === null)) continue;
    const rule = node.operator.gradient;
    graph.scope(`grad:${node.name}`, () => {
      if (node.operator.type === EMBEDDING.type) {
        const [table, ids] = node.inputs as [Value, Value];
        if (!wanted.has(table)) return;
        const rows = sparse.get(table) ?? [];
        rows.push({ ids, rows: outputGradients[0]! });
        sparse.set(table, rows);
        return;
      }
      if (typeof rule !== 'function') {
        if ('zero' in rule) return;
        throw new Fr1Error('GRADIENT_FORBIDDEN', `${node.name} has no gradient: ${rule.forbidden}`);
      }
      const inputGradients = rule(node, outputGradients);
      node.inputs.forEach((input, i) => {
        const gradient = inputGradients[i];
        if (gradient && reaches.has(input)) accumulate(input, gradient);
      });
    });
  }
  const dense = new Map<Value, Value>();
  for (const target of targets) {
    const gradient = gradients.get(target);
    if (gradient) dense.set(target, gradient);
  }
  return { dense, sparse };
}
