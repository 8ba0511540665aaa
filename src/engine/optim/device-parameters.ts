/**
 * Trained weights in the memory of a device. Like in host memory, weights, gradients and moments are vectors in one layout,
 * those with weight decay first, so that sums, norms and updates are few and long. Graphs read each weight, and write each
 * gradient, as a tensor of its own: where the device has addresses, a part of the vector; where not, weights are copied out
 * of the vectors after an update (`refresh`) and the graph joins the gradients.
 */
import { createHash } from 'node:crypto';
import { Graph, type Value } from '../autodiff/graph.ts';
import { Add } from '../ops/add.ts';
import { FlatPart } from '../ops/flat-part.ts';
import { Mul } from '../ops/mul.ts';
import { ReduceSum } from '../ops/reduce-sum.ts';
import { Program, type SessionSource } from '../program.ts';
import type { DeviceMemory } from '../session/runtime.ts';
import { type DeviceTensor, float32, sizeOf } from '../tensor.ts';
import type { FlatBuffer, ParameterStore, StoredGroup } from './parameter-store.ts';

/** Vectors have a multiple of 256 * 1024 elements, so that a norm is two sums of many rows and a short one. */
const ROWS = 256;
const COLUMNS = 1024;

/** One tensor per group. */
export type DeviceVector = readonly DeviceTensor<'float32'>[];

export interface ParameterGroup extends StoredGroup {
  /** Elements on the device; those past `to - from` are zero. */
  readonly length: number;
}

export class DeviceParameters {
  readonly groups: readonly ParameterGroup[];
  readonly weights: DeviceVector;
  readonly #memory: DeviceMemory;
  readonly #tensors: ReadonlyMap<string, DeviceTensor<'float32'>>;
  /** Absent where the tensors are parts of the vectors. */
  readonly #split: Program | undefined;
  readonly #sum: Program;
  readonly #squares: Program;

  private constructor(
    memory: DeviceMemory,
    groups: readonly ParameterGroup[],
    programs: { readonly split: Program | undefined; readonly sum: Program; readonly squares: Program },
  ) {
    this.#memory = memory;
    this.groups = groups;
    this.weights = this.vector();
    this.#tensors = new Map(
      programs.split === undefined
        ? this.views(this.weights)
        : groups.flatMap(({ parameters }) =>
            parameters.map(({ name, shape }) => [name, memory.allocate('float32', shape)] as const),
          ),
    );
    this.#split = programs.split;
    this.#sum = programs.sum;
    this.#squares = programs.squares;
  }

  /** Copies the weights of a store to the device of a source. */
  static async create(source: SessionSource, memory: DeviceMemory, store: ParameterStore): Promise<DeviceParameters> {
    const groups = groupsOf(store);
    const layout = groups.map(({ parameters }) => parameters.map(({ name, shape }) => [name, shape]));
    const digest = createHash('sha256').update(JSON.stringify(layout)).digest('hex').slice(0, 16);
    const [split, sum, squares] = await Promise.all([
      hasParts(memory, groups) ? undefined : compile(source, `weights-of-vectors:${digest}`, splitGraph(groups)),
      compile(source, 'vector-sum', sumGraph()),
      compile(source, 'vector-squares', squaresGraph()),
    ]);
    const device = new DeviceParameters(memory, groups, { split, sum, squares });
    await device.upload(store.flat, device.weights);
    await device.refresh();
    return device;
  }

  /** The weight of that name. */
  find(name: string): DeviceTensor<'float32'> | undefined {
    return this.#tensors.get(name);
  }

  /** Whether each weight, gradient or moment is a part of its vector. */
  get hasViews(): boolean {
    return this.#split === undefined;
  }

  /** The tensors in a vector by the names of the weights. */
  views(vector: DeviceVector): [name: string, tensor: DeviceTensor<'float32'>][] {
    return this.groups.flatMap(({ parameters }, i) => {
      let from = 0;
      return parameters.map(({ name, shape }): [string, DeviceTensor<'float32'>] => {
        const start = from;
        from += sizeOf(shape);
        return [name, this.#memory.view!(vector[i]!, start, shape)];
      });
    });
  }

  /** A vector of zeros. */
  async zeros(): Promise<DeviceVector> {
    const vector = this.vector();
    for (const [i, { length }] of this.groups.entries()) {
      await this.#memory.upload(float32([length]), vector[i]!);
    }
    return vector;
  }

  /** A vector with undefined elements. */
  vector(): DeviceVector {
    return this.groups.map(({ length }) => this.#memory.allocate('float32', [length]));
  }

  async upload(from: FlatBuffer, to: DeviceVector): Promise<void> {
    for (const [i, group] of this.groups.entries()) {
      const padded = new Float32Array(group.length);
      padded.set(from.subarray(group.from, group.to));
      await this.#memory.upload(float32([group.length], padded), to[i]!);
    }
  }

  async download(from: DeviceVector, to: FlatBuffer): Promise<void> {
    for (const [i, group] of this.groups.entries()) {
      const size = group.to - group.from;
      await this.#memory.download(from[i]!, float32([size], to.subarray(group.from, group.to)));
    }
  }

  /** Brings the tensors that graphs read up to date with the vectors. */
  async refresh(): Promise<void> {
    if (this.#split === undefined) return;
    const feeds = Object.fromEntries(this.weights.map((tensor, i) => [`group${i}`, tensor]));
    const into = Object.fromEntries([...this.#tensors].map(([name, tensor]) => [`weight:${name}`, tensor]));
    await this.#split.run(feeds, { into });
  }

  /** sum <- a + b, where sum is neither. */
  async add(a: DeviceVector, b: DeviceVector, sum: DeviceVector): Promise<void> {
    for (const [i, into] of sum.entries()) await this.#sum.run({ a: a[i]!, b: b[i]! }, { into: { sum: into } });
  }

  /** Euclidean norm of all elements. */
  async norm(vector: DeviceVector): Promise<number> {
    let sum = 0;
    for (const tensor of vector) {
      const shape = [tensor.shape[0]! / (ROWS * COLUMNS), ROWS, COLUMNS];
      const { squares } = await this.#squares.run({ x: { ...tensor, shape } });
      sum += Number(squares!.data[0]);
    }
    return Math.sqrt(sum);
  }
}

function groupsOf({ groups }: ParameterStore): ParameterGroup[] {
  const multiple = ROWS * COLUMNS;
  return groups.map((group) => ({ ...group, length: Math.ceil((group.to - group.from) / multiple) * multiple }));
}

/** Whether the weights can be parts of their vectors: where the device has addresses, and all of them are aligned. */
function hasParts(memory: DeviceMemory, groups: readonly ParameterGroup[]): boolean {
  const isAligned = groups.every(({ parameters }) => parameters.every(({ shape }) => sizeOf(shape) % 4 === 0));
  return memory.view !== undefined && isAligned;
}

interface Built {
  readonly graph: Graph;
  readonly outputs: Readonly<Record<string, Value>>;
}

function compile(source: SessionSource, key: string, { graph, outputs }: Built): Promise<Program> {
  return Program.compile(source, graph, outputs, { key });
}

function splitGraph(groups: readonly ParameterGroup[]): Built {
  const graph = new Graph();
  const outputs: Record<string, Value> = {};
  for (const [i, { parameters, length }] of groups.entries()) {
    const flat = graph.input(`group${i}`, 'float32', [length]);
    let from = 0;
    for (const { name, shape } of parameters) {
      outputs[`weight:${name}`] = FlatPart(flat, from, shape);
      from += sizeOf(shape);
    }
  }
  return { graph, outputs };
}

function sumGraph(): Built {
  const graph = new Graph();
  return { graph, outputs: { sum: Add(graph.input('a', 'float32', ['N']), graph.input('b', 'float32', ['N'])) } };
}

function squaresGraph(): Built {
  const graph = new Graph();
  const x = graph.input('x', 'float32', ['A', ROWS, COLUMNS]);
  return { graph, outputs: { squares: ReduceSum(ReduceSum(ReduceSum(Mul(x, x), [2]), [1]), [0]) } };
}
