/**
 * A computation as data: values, and nodes that apply operators to them. Building a graph computes nothing; `onnx/`
 * turns it into bytes, `backward.ts` extends it with gradients.
 */
import { Fr1Error } from '../../errors/fr1-error.ts';
import type { Emitter } from '../onnx/emitter.ts';
import type { DType, HostTensor } from '../tensor.ts';
import { type Dim, formatShape, type Shape } from './dim.ts';

export interface ValueSpec {
  readonly dtype: DType;
  readonly shape: Shape;
}

/** How a gradient passes an operator: a rule, or the written reason why there is none. */
export type GradientRule<Attributes> =
  | ((node: Node<Attributes>, outputGradients: readonly (Value | null)[]) => readonly (Value | null)[])
  | { readonly zero: string }
  | { readonly forbidden: string };

export interface Operator<Attributes = unknown> {
  readonly type: string;
  /** Shapes and dtypes of the outputs. @throws SHAPE_MISMATCH, DTYPE_MISMATCH */
  infer(inputs: readonly Value[], attributes: Attributes): readonly ValueSpec[];
  emit(node: Node<Attributes>, emitter: Emitter): void;
  readonly gradient: GradientRule<Attributes>;
}

export interface Node<Attributes = unknown> {
  readonly operator: Operator<Attributes>;
  readonly attributes: Attributes;
  readonly inputs: readonly Value[];
  readonly outputs: readonly Value[];
  /** Scope and serial number, e.g. `text.layers.0/Gemm_12`: what a runtime error points at. */
  readonly name: string;
}

export type ValueSource =
  | { readonly kind: 'input' }
  | { readonly kind: 'parameter' }
  | { readonly kind: 'constant'; readonly tensor: HostTensor }
  | { readonly kind: 'node'; readonly index: number };

export class Value {
  readonly graph: Graph;
  readonly id: number;
  readonly dtype: DType;
  readonly shape: Shape;
  readonly name: string;
  readonly source: ValueSource;
  /** The node that makes this value; null for inputs, parameters and constants. */
  node: Node | null = null;

  constructor(graph: Graph, id: number, spec: ValueSpec, name: string, source: ValueSource) {
    this.graph = graph;
    this.id = id;
    this.dtype = spec.dtype;
    this.shape = spec.shape;
    this.name = name;
    this.source = source;
  }

  get rank(): number {
    return this.shape.length;
  }

  /** Size along an axis; negative axes count from the end. */
  dim(axis: number): Dim {
    const size = this.shape[axis < 0 ? axis + this.shape.length : axis];
    if (size === undefined) throw new Fr1Error('SHAPE_MISMATCH', `${this.describe()} has no axis ${axis}`);
    return size;
  }

  describe(): string {
    return `${this.name} ${this.dtype}${formatShape(this.shape)}`;
  }
}

export class Graph {
  readonly nodes: Node[] = [];
  readonly inputs: Value[] = [];
  readonly #byName = new Map<string, Value>();
  readonly #scopes: string[] = [];
  readonly #scalars = new Map<number, Value>();
  #ids = 0;

  /** A value that is fed on every run. */
  input(name: string, dtype: DType, shape: Shape): Value {
    return this.#leaf(name, { dtype, shape }, { kind: 'input' });
  }

  /** A model weight: fed or resident, and a possible target of `backward`. Asking twice gives the same value. */
  parameter(name: string, shape: Shape, dtype: DType = 'float32'): Value {
    return this.#byName.get(name) ?? this.#leaf(name, { dtype, shape }, { kind: 'parameter' });
  }

  constant(tensor: HostTensor): Value {
    const id = this.#ids++;
    return new Value(this, id, { dtype: tensor.dtype, shape: tensor.shape }, `constant_${id}`, {
      kind: 'constant',
      tensor,
    });
  }

  /** A float32 constant of shape [], shared by equal numbers. */
  scalar(value: number): Value {
    let scalar = this.#scalars.get(value);
    if (!scalar) {
      scalar = this.constant({ dtype: 'float32', shape: [], data: Float32Array.of(value) });
      this.#scalars.set(value, scalar);
    }
    return scalar;
  }

  /** Names of nodes made inside `build` start with this scope. */
  scope<T>(name: string, build: () => T): T {
    this.#scopes.push(name);
    try {
      return build();
    } finally {
      this.#scopes.pop();
    }
  }

  find(name: string): Value | undefined {
    return this.#byName.get(name);
  }

  apply<Attributes>(
    operator: Operator<Attributes>,
    inputs: readonly Value[],
    attributes: Attributes,
  ): readonly Value[] {
    for (const input of inputs) {
      if (input.graph !== this) {
        throw new Fr1Error('SHAPE_MISMATCH', `${operator.type}: ${input.describe()} belongs to another graph`);
      }
    }
    const serial = this.nodes.length;
    const name = [...this.#scopes, ''].join('/') + `${operator.type}_${serial}`;
    const specs = operator.infer(inputs, attributes);
    const outputs = specs.map(
      (spec, index) =>
        new Value(this, this.#ids++, spec, specs.length === 1 ? name : `${name}:${index}`, { kind: 'node', index }),
    );
    const node: Node<Attributes> = { operator, attributes, inputs, outputs, name };
    for (const output of outputs) output.node = node as Node;
    this.nodes.push(node as Node);
    return outputs;
  }

  #leaf(name: string, spec: ValueSpec, source: ValueSource): Value {
    if (this.#byName.has(name)) throw new Fr1Error('SHAPE_MISMATCH', `the graph already has a value named ${name}`);
    const value = new Value(this, this.#ids++, spec, name, source);
    this.#byName.set(name, value);
    this.inputs.push(value);
    return value;
  }
}

/** Applies an operator that has one output. */
export function apply<Attributes>(
  operator: Operator<Attributes>,
  inputs: readonly Value[],
  attributes: Attributes,
): Value {
  return inputs[0]!.graph.apply(operator, inputs, attributes)[0]!;
}
