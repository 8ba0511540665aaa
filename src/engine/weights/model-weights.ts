/**
 * All weights of a model by canonical name: those that are trained, in one flat float32 buffer, and those that stay as
 * they are, in the element type in which they were stored. Only the former have gradients and moments.
 */
import { Fr1Error } from '../../errors/fr1-error.ts';
import type { LoraLayer, WeightLayout } from '../nn/model-graph.ts';
import { ParameterStore } from '../optim/parameter-store.ts';
import type { SessionSource } from '../program.ts';
import type { DeviceMemory } from '../session/runtime.ts';
import type { HostTensor, Tensor } from '../tensor.ts';
import { type FloatDType, toFloat32 } from './convert.ts';

/** Weights that are not trained. What `find` returns may be a view of a mapped file. */
export interface FrozenWeights {
  readonly names: readonly string[];
  find(name: string): HostTensor<FloatDType> | undefined;
  /** Element type of what `find` returns, without finding it. */
  dtypeOf(name: string): FloatDType | undefined;
}

/** Frozen weights in memory. */
export class MemoryWeights implements FrozenWeights {
  readonly #tensors: ReadonlyMap<string, HostTensor<FloatDType>>;

  constructor(tensors: Iterable<readonly [name: string, tensor: HostTensor<FloatDType>]> = []) {
    this.#tensors = new Map(tensors);
  }

  get names(): readonly string[] {
    return [...this.#tensors.keys()];
  }

  find(name: string): HostTensor<FloatDType> | undefined {
    return this.#tensors.get(name);
  }

  dtypeOf(name: string): FloatDType | undefined {
    return this.#tensors.get(name)?.dtype;
  }
}

/**
 * Weights in float32 for devices that know no 16 bits. Each is widened when it is asked for and not kept: what is on the
 * device takes the host no memory.
 */
export class WidenedWeights implements FrozenWeights {
  readonly #stored: FrozenWeights;

  constructor(stored: FrozenWeights) {
    this.#stored = stored;
  }

  get names(): readonly string[] {
    return this.#stored.names;
  }

  find(name: string): HostTensor<'float32'> | undefined {
    const tensor = this.#stored.find(name);
    return tensor && { dtype: 'float32', shape: tensor.shape, data: toFloat32(tensor) };
  }

  dtypeOf(name: string): 'float32' | undefined {
    return this.#stored.dtypeOf(name) && 'float32';
  }
}

/** Several sources as one; a name is looked up in order. */
export class JoinedWeights implements FrozenWeights {
  readonly #parts: readonly FrozenWeights[];

  constructor(...parts: readonly FrozenWeights[]) {
    this.#parts = parts;
  }

  get names(): readonly string[] {
    return this.#parts.flatMap(({ names }) => names);
  }

  find(name: string): HostTensor<FloatDType> | undefined {
    for (const part of this.#parts) {
      const tensor = part.find(name);
      if (tensor) return tensor;
    }
    return undefined;
  }

  dtypeOf(name: string): FloatDType | undefined {
    for (const part of this.#parts) {
      const dtype = part.dtypeOf(name);
      if (dtype) return dtype;
    }
    return undefined;
  }
}

export class ModelWeights implements WeightLayout {
  readonly trained: ParameterStore;
  readonly frozen: FrozenWeights;
  /** Linear layers with an adapter; its matrices are among the weights. */
  readonly adapters: ReadonlyMap<string, LoraLayer>;
  #frozenOnDevice: Promise<ReadonlyMap<string, Tensor>> | undefined;

  constructor(
    trained: ParameterStore,
    frozen: FrozenWeights = new MemoryWeights(),
    adapters: ReadonlyMap<string, LoraLayer> = new Map(),
  ) {
    this.trained = trained;
    this.frozen = frozen;
    this.adapters = adapters;
  }

  /** Weights of which none is trained. */
  static frozen(frozen: FrozenWeights, adapters?: ReadonlyMap<string, LoraLayer>): ModelWeights {
    return new ModelWeights(new ParameterStore([]), frozen, adapters);
  }

  /** Of the weights that are not trained, as they are held. */
  get frozenBytes(): number {
    return this.frozen.names.reduce((sum, name) => sum + this.frozen.find(name)!.data.byteLength, 0);
  }

  /** The weight of that name in host memory. */
  find(name: string): HostTensor<FloatDType> | undefined {
    return this.trained.find(name) ?? this.frozen.find(name);
  }

  /** Where graphs that run on a source's device find the weights: copied there once, or in host memory. */
  async finder(source: SessionSource): Promise<(name: string) => Tensor | undefined> {
    const { memory } = source;
    if (memory === undefined) return (name) => this.find(name);
    const trained = this.trained.parameters.length > 0 ? await this.trained.onDevice(source) : undefined;
    this.#frozenOnDevice ??= this.#placeFrozen(memory);
    const frozen = await this.#frozenOnDevice;
    return (name) => trained?.find(name) ?? frozen.get(name);
  }

  async #placeFrozen(memory: DeviceMemory): Promise<ReadonlyMap<string, Tensor>> {
    const placed = new Map<string, Tensor>();
    for (const name of this.frozen.names) placed.set(name, await memory.upload(this.frozen.find(name)!));
    return placed;
  }

  /** @throws TENSOR_UNKNOWN */
  tensor(name: string): HostTensor<FloatDType> {
    const tensor = this.find(name);
    if (!tensor) throw new Fr1Error('TENSOR_UNKNOWN', `the model has no weight named ${name}`);
    return tensor;
  }

  dtypeOf(name: string): FloatDType {
    return this.trained.find(name)?.dtype ?? this.frozen.dtypeOf(name) ?? this.tensor(name).dtype;
  }

  adapterOf(module: string): LoraLayer | undefined {
    return this.adapters.get(module);
  }

  /** What graphs over these weights depend on, values aside; part of the keys under which sessions are shared. */
  get layoutKey(): string {
    const narrow = this.frozen.names.flatMap((name) => {
      const dtype = this.frozen.dtypeOf(name);
      return dtype === 'float32' ? [] : [`${name}:${dtype}`];
    });
    const trained = this.trained.parameters.map(({ name }) => name);
    return JSON.stringify({ trained, narrow, adapters: [...this.adapters] });
  }
}
