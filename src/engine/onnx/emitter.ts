/**
 * Writes a graph as an ONNX model for one execution provider. Operators call the emitter to add ONNX nodes; only what
 * the wanted outputs need is written.
 */
import { type Dim, evaluateDim, isSymbol, type Shape } from '../autodiff/dim.ts';
import type { Graph, Node, Value } from '../autodiff/graph.ts';
import { type Emission, emissionOf, fuse } from '../ops/fusions.ts';
import type { Provider } from '../session/runtime.ts';
import type { HostTensor } from '../tensor.ts';
import { type AttributeProto, encodeModel, type NodeProto, ONNX_DTYPE, type TensorProto } from './proto.ts';

/** ONNX opset of every model; RotaryEmbedding needs 23. */
export const OPSET = 23;

export type AttributeValue = number | string | readonly number[] | { readonly float: number };

export interface EmitOptions {
  readonly domain?: string;
  readonly attributes?: Readonly<Record<string, AttributeValue>>;
}

/** A frozen weight that stays in its file: a byte range of a file inside the session's external-data folder. */
export interface ExternalWeight {
  readonly location: string;
  readonly offset: number;
  readonly length: number;
}

/**
 * An int64 input that the program fills in: a shape which the graph cannot spell as a constant, or the numbers from 0 on in
 * that shape.
 */
export interface ShapeInput {
  readonly kind: 'shape' | 'places';
  readonly name: string;
  readonly dims: readonly Dim[];
}

export interface EmittedModel {
  readonly bytes: Uint8Array;
  /** Inputs and parameters that must be fed. */
  readonly feeds: readonly Value[];
  readonly shapeInputs: readonly ShapeInput[];
  readonly outputs: Readonly<Record<string, Value>>;
}

function attribute(name: string, value: AttributeValue): AttributeProto {
  if (typeof value === 'number') return { name, type: 2, i: value };
  if (typeof value === 'string') return { name, type: 3, s: new TextEncoder().encode(value) };
  if ('float' in value) return { name, type: 1, f: value.float };
  return { name, type: 7, ints: value };
}

function bytesOf(tensor: HostTensor): Uint8Array {
  return new Uint8Array(tensor.data.buffer, tensor.data.byteOffset, tensor.data.byteLength);
}

export class Emitter {
  readonly provider: Provider;
  /** Whether matrix products are computed in bfloat16. */
  readonly narrowProducts: boolean;
  readonly nodes: NodeProto[] = [];
  readonly initializers: TensorProto[] = [];
  readonly shapeInputs = new Map<string, ShapeInput>();
  /** ONNX names of values that are graph outputs. */
  readonly outputNames = new Map<Value, string>();
  readonly #constants = new Map<string, string>();
  readonly #made = new Map<string, string>();
  #scope = '';
  #serial = 0;

  constructor(provider: Provider, narrowProducts = false) {
    this.provider = provider;
    this.narrowProducts = narrowProducts;
  }

  /** The ONNX name of a value; a constant is written on first use. Names that are made up begin with `%`. */
  name(value: Value): string {
    if (value.source.kind === 'constant') return this.constant(value.source.tensor);
    return this.outputNames.get(value) ?? (value.source.kind === 'node' ? `%${value.id}` : value.name);
  }

  /** Emits what stands for one graph node or several; runtime errors then name it. */
  within({ name }: Emission, emit: () => void): void {
    this.#scope = name;
    emit();
  }

  /**
   * Adds an ONNX node and returns its output names.
   *
   * @param outputs values of the graph that the node makes, or a number of fresh intermediate outputs
   */
  op(
    opType: string,
    inputs: readonly (Value | string)[],
    outputs: readonly (Value | string)[] | number = 1,
    options: EmitOptions = {},
  ): string[] {
    const names =
      typeof outputs === 'number'
        ? Array.from({ length: outputs }, () => `%t${this.#serial++}`)
        : outputs.map((output) => (typeof output === 'string' ? output : this.name(output)));
    this.nodes.push({
      input: inputs.map((input) => (typeof input === 'string' ? input : this.name(input))),
      output: names,
      name: `${this.#scope}#${opType}${this.nodes.length}`,
      opType,
      domain: options.domain ?? '',
      attribute: Object.entries(options.attributes ?? {}).map(([name, value]) => attribute(name, value)),
    });
    return names;
  }

  /** Adds a node that multiplies matrices, between casts where products are computed in bfloat16. */
  product(opType: string, inputs: readonly (Value | string)[], outputs: readonly Value[], options: EmitOptions): void {
    if (!this.narrowProducts) {
      this.op(opType, inputs, outputs, options);
      return;
    }
    const cast = (input: Value | string) =>
      this.op('Cast', [input], 1, { attributes: { to: ONNX_DTYPE.bfloat16 } })[0]!;
    const narrow = this.op(opType, inputs.map(cast), 1, options);
    this.op('Cast', narrow, outputs, { attributes: { to: ONNX_DTYPE.float32 } });
  }

  /** An initialiser; equal small tensors are written once. */
  constant(tensor: HostTensor): string {
    const bytes = bytesOf(tensor);
    const key =
      bytes.length <= 256 ? `${tensor.dtype}:${tensor.shape.join(',')}:${Buffer.from(bytes).toString('hex')}` : '';
    const known = key ? this.#constants.get(key) : undefined;
    if (known) return known;
    const name = `%c${this.initializers.length}`;
    this.initializers.push({ name, dims: tensor.shape, dataType: ONNX_DTYPE[tensor.dtype], rawData: bytes });
    if (key) this.#constants.set(key, name);
    return name;
  }

  scalar(value: number): string {
    return this.constant({ dtype: 'float32', shape: [], data: Float32Array.of(value) });
  }

  /** int64 constant of shape [values.length]. */
  ints(values: readonly number[]): string {
    return this.constant({
      dtype: 'int64',
      shape: [values.length],
      data: BigInt64Array.from(values, (value) => BigInt(value)),
    });
  }

  /**
   * The shape operand of Reshape: a constant where 0 (copy) and one -1 (infer) can spell it, else an int64 input that
   * the program fills in.
   */
  reshapeTarget(target: Shape, from: Shape): string {
    const spelled = target.map((dim, axis) => (typeof dim === 'number' ? dim : dim === from[axis] ? 0 : -1));
    if (spelled.filter((dim) => dim === -1).length <= 1) return this.ints(spelled);
    return this.shape(target);
  }

  /** A full shape as an operand. */
  shape(target: Shape): string {
    if (target.every((dim) => typeof dim === 'number')) return this.ints(target as readonly number[]);
    const name = `shape:${target.join(',')}`;
    this.shapeInputs.set(name, { kind: 'shape', name, dims: target });
    return name;
  }

  /** The places of a tensor of that shape, in order: 0, 1, 2, ... in int64. */
  places(shape: Shape): string {
    const name = `places:${shape.join(',')}`;
    this.shapeInputs.set(name, { kind: 'places', name, dims: shape });
    return name;
  }

  /** The output of a node that several graph nodes need alike; made for the first of them. */
  once(key: string, make: () => string): string {
    const known = this.#made.get(key) ?? make();
    this.#made.set(key, known);
    return known;
  }
}

/**
 * Emits what `outputs` need of a graph.
 *
 * @param frozen parameters that become external-data initialisers instead of feeds
 */
export function emitModel(
  graph: Graph,
  outputs: Readonly<Record<string, Value>>,
  options: {
    provider?: Provider;
    name?: string;
    frozen?: ReadonlyMap<Value, ExternalWeight>;
    narrowProducts?: boolean;
  } = {},
): EmittedModel {
  const { provider = 'cpu', name = 'fr1', frozen, narrowProducts = false } = options;
  const needed = new Set<Value>(Object.values(outputs));
  const nodes: Node[] = [];
  for (const node of [...graph.nodes].reverse()) {
    if (!node.outputs.some((output) => needed.has(output))) continue;
    nodes.push(node);
    for (const input of node.inputs) needed.add(input);
  }
  const emitter = new Emitter(provider, narrowProducts);
  for (const [outputName, value] of Object.entries(outputs)) {
    if (value.source.kind === 'node' && !emitter.outputNames.has(value)) emitter.outputNames.set(value, outputName);
  }
  const plain = nodes.reverse().map(emissionOf);
  const emissions = fuse(plain, Object.values(outputs), provider);
  for (const emission of emissions) emitter.within(emission, () => emission.emit(emitter));

  const outputInfos = Object.entries(outputs).map(([outputName, value]) => {
    if (emitter.outputNames.get(value) !== outputName) emitter.op('Identity', [value], [outputName]);
    return valueInfo(outputName, value.dtype, value.shape);
  });
  const feeds = graph.inputs.filter((input) => needed.has(input) && !frozen?.has(input));
  const external = graph.inputs.flatMap((input): TensorProto[] => {
    const weight = needed.has(input) ? frozen?.get(input) : undefined;
    if (!weight) return [];
    return [
      {
        name: input.name,
        dims: input.shape as readonly number[],
        dataType: ONNX_DTYPE[input.dtype],
        dataLocation: 1,
        externalData: [
          { key: 'location', value: weight.location },
          { key: 'offset', value: String(weight.offset) },
          { key: 'length', value: String(weight.length) },
        ],
      },
    ];
  });
  const shapeInputs = [...emitter.shapeInputs.values()];
  const bytes = encodeModel({
    irVersion: 10,
    producerName: 'fr1',
    opsetImport: [
      { domain: '', version: OPSET },
      { domain: 'com.microsoft', version: 1 },
    ],
    graph: {
      name,
      node: leavesLastFirst(emitter.nodes),
      initializer: [...emitter.initializers, ...external],
      input: [
        ...feeds.map((feed) => valueInfo(feed.name, feed.dtype, feed.shape)),
        ...shapeInputs.map(({ kind, name, dims }) => valueInfo(name, 'int64', kind === 'shape' ? [dims.length] : dims)),
      ],
      output: outputInfos,
    },
  });
  return { bytes, feeds, shapeInputs, outputs };
}

/**
 * Nodes that no other reads come last, the last of them first. onnxruntime begins with what its last leaf needs and goes on to the
 * one before: in the order of the graph it would compute the whole way back for the gradient of the first layer, and only then,
 * with all their operands still held, those of the other layers.
 */
function leavesLastFirst(nodes: readonly NodeProto[]): NodeProto[] {
  const read = new Set(nodes.flatMap(({ input }) => input));
  const isLeaf = ({ output }: NodeProto) => !output.some((name) => read.has(name));
  return [...nodes.filter((node) => !isLeaf(node)), ...nodes.filter(isLeaf).reverse()];
}

function valueInfo(name: string, dtype: HostTensor['dtype'], shape: Shape) {
  return {
    name,
    type: {
      tensorType: {
        elemType: ONNX_DTYPE[dtype],
        shape: {
          dim: shape.map((dim) =>
            typeof dim === 'number' ? { dimValue: dim } : isSymbol(dim) ? { dimParam: dim } : {},
          ),
        },
      },
    },
  };
}

/** The numbers of a shape for the given sizes. */
export function resolveShape(shape: Shape, sizes: ReadonlyMap<string, number>): number[] {
  return shape.map((dim) => evaluateDim(dim, sizes));
}
