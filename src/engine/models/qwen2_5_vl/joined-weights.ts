/**
 * Weights of layers that read the same input, one below the other, in the memory of a device: copies beside the weights
 * themselves, so that decoding multiplies once where the model has several matrices. A small product takes a GPU as long as one
 * that is several times as wide.
 */
import { createHash } from 'node:crypto';
import { Graph, type Value } from '../../autodiff/graph.ts';
import { partsOfJoined } from '../../nn/linear.ts';
import { Concat } from '../../ops/concat.ts';
import { Program, type SessionSource } from '../../program.ts';
import type { DeviceMemory } from '../../session/runtime.ts';
import type { DeviceTensor, Tensor } from '../../tensor.ts';
import type { ModelWeights } from '../../weights/model-weights.ts';

export class JoinedWeights {
  readonly #program: Program;
  readonly #tensors: ReadonlyMap<string, DeviceTensor<'float32'>>;

  private constructor(program: Program, tensors: ReadonlyMap<string, DeviceTensor<'float32'>>) {
    this.#program = program;
    this.#tensors = tensors;
  }

  /** @param names those of `linears()`; the tensors are empty until `refresh` */
  static async create(
    source: SessionSource & { readonly memory: DeviceMemory },
    weights: ModelWeights,
    names: readonly string[],
  ): Promise<JoinedWeights> {
    const graph = new Graph();
    const outputs: Record<string, Value> = {};
    for (const name of names) {
      const parts = partsOfJoined(name).map((part) => graph.parameter(part, weights.tensor(part).shape));
      outputs[`joined:${name}`] = Concat(parts, 0);
    }
    const layout = graph.inputs.map(({ name, shape }) => [name, shape]);
    const digest = createHash('sha256').update(JSON.stringify(layout)).digest('hex').slice(0, 16);
    const program = await Program.compile(source, graph, outputs, { key: `joined-weights:${digest}` });
    const tensors = names.map((name) => {
      const shape = outputs[`joined:${name}`]!.shape as readonly number[];
      return [name, source.memory.allocate('float32', shape)] as const;
    });
    return new JoinedWeights(program, new Map(tensors));
  }

  /** Copies the weights as they are now. */
  async refresh(find: (name: string) => Tensor | undefined): Promise<void> {
    const feeds = Object.fromEntries(this.#program.feeds.map(({ name }) => [name, find(name)!]));
    const into = Object.fromEntries([...this.#tensors].map(([name, tensor]) => [`joined:${name}`, tensor]));
    await this.#program.run(feeds, { into });
  }

  find(name: string): DeviceTensor<'float32'> | undefined {
    return this.#tensors.get(name);
  }

  async release(): Promise<void> {
    await this.#program.release();
    for (const { buffer } of this.#tensors.values()) buffer.release();
  }
}
