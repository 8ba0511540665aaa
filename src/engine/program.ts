/**
 * A compiled graph: an onnxruntime session that takes feeds by name, works out the named sizes from their shapes, and
 * checks every feed before the runtime sees it.
 */
import { Fr1Error } from '../errors/fr1-error.ts';
import { evaluateDim, formatShape, solveSizes } from './autodiff/dim.ts';
import type { Graph, Value } from './autodiff/graph.ts';
import { type EmittedModel, type ExternalWeight, emitModel, resolveShape } from './onnx/emitter.ts';
import { cudaPrecision } from './session/precision.ts';
import type { BoundRun, DeviceMemory, Provider, Session, SessionOptions } from './session/runtime.ts';
import { emptyData, type HostTensor, int64, isHostTensor, sizeOf, type Tensor } from './tensor.ts';

export type Feeds = Readonly<Record<string, Tensor>>;
export type HostFeeds = Readonly<Record<string, HostTensor>>;

/** What a program needs of a device: made by a lease (shared sessions) or by a bare runtime (tests, scripts). */
export interface SessionSource {
  readonly provider: Provider;
  /** Where tensors can stay between runs; absent on the CPU, whose sessions use host memory as it is. */
  readonly memory?: DeviceMemory | undefined;
  session(key: string, create: () => { model: Uint8Array; options?: SessionOptions }): Promise<Session>;
}

export interface ProgramOptions {
  /** Content key under which sessions are shared: equal keys mean equal graphs. */
  readonly key: string;
  readonly frozen?: ReadonlyMap<Value, ExternalWeight>;
  readonly session?: SessionOptions;
}

export interface RunProgramOptions {
  readonly signal?: AbortSignal | undefined;
  /** Outputs to write in place; others are allocated, in host memory. */
  readonly into?: Readonly<Record<string, Tensor>>;
}

export class Program {
  readonly #model: EmittedModel;
  readonly #session: Session;
  /** Inputs of the graph that the wanted outputs do not need; their shapes still tell named sizes. */
  readonly #unused: readonly Value[];

  private constructor(graph: Graph, model: EmittedModel, session: Session) {
    this.#model = model;
    this.#session = session;
    const used = new Set(model.feeds);
    this.#unused = graph.inputs.filter((value) => value.source.kind === 'input' && !used.has(value));
  }

  static async compile(
    source: SessionSource,
    graph: Graph,
    outputs: Readonly<Record<string, Value>>,
    options: ProgramOptions,
  ): Promise<Program> {
    const model = emitModel(graph, outputs, {
      provider: source.provider,
      narrowProducts: source.provider === 'cuda' && cudaPrecision() === 'bfloat16',
      name: options.key,
      ...(options.frozen ? { frozen: options.frozen } : {}),
    });
    const session = await source.session(options.key, () => ({
      model: model.bytes,
      options: { provider: source.provider, graphOptimization: 'basic', ...options.session },
    }));
    return new Program(graph, model, session);
  }

  /**
   * The values to feed, parameters included. Last come inputs that the wanted outputs do not need: they may be left out,
   * unless a size is told by no other feed.
   */
  get feeds(): readonly Value[] {
    return [...this.#model.feeds, ...this.#unused];
  }

  get outputNames(): readonly string[] {
    return Object.keys(this.#model.outputs);
  }

  /**
   * Runs the graph.
   *
   * @returns the outputs in host memory: all but those that `into` puts on the device
   * @throws SHAPE_MISMATCH, DTYPE_MISMATCH when a feed is missing or does not fit
   */
  async run(feeds: Feeds, { signal, into }: RunProgramOptions = {}): Promise<Record<string, HostTensor>> {
    const bound = this.bind(feeds, into);
    try {
      return await bound.run({ signal });
    } finally {
      bound.release();
    }
  }

  /**
   * Prepares a run that is repeated with the same tensors, whose elements may change in between.
   *
   * @param into as of `run`
   * @throws SHAPE_MISMATCH, DTYPE_MISMATCH when a feed is missing or does not fit
   */
  bind(feeds: Feeds, into: Readonly<Record<string, Tensor>> = {}): BoundRun {
    const sizes = this.#sizes(feeds);
    const all: Record<string, Tensor> = {};
    for (const value of this.#model.feeds) all[value.name] = feeds[value.name]!;
    for (const input of this.#model.shapeInputs) {
      const shape = resolveShape(input.dims, sizes);
      all[input.name] =
        input.kind === 'shape'
          ? int64([shape.length], shape)
          : int64(
              shape,
              Int32Array.from({ length: sizeOf(shape) }, (_, i) => i),
            );
    }
    const fetches: Record<string, Tensor> = {};
    for (const [name, value] of Object.entries(this.#model.outputs)) {
      const shape = resolveShape(value.shape, sizes);
      const given = into[name];
      if (given && (given.dtype !== value.dtype || sizeOf(given.shape) !== sizeOf(shape))) {
        throw new Fr1Error(
          'SHAPE_MISMATCH',
          `output ${name} is ${value.dtype}[${shape}], the given buffer ${given.dtype}[${given.shape}]`,
        );
      }
      fetches[name] =
        given && !isHostTensor(given)
          ? { ...given, shape }
          : {
              dtype: value.dtype,
              shape,
              data: (given?.data ?? emptyData(value.dtype, sizeOf(shape))) as never,
            };
    }
    return this.#session.bind(all, fetches);
  }

  async release(): Promise<void> {
    await this.#session.release();
  }

  #sizes(feeds: Feeds): Map<string, number> {
    const mismatch = (value: Value, why: string) =>
      new Fr1Error('SHAPE_MISMATCH', `feed ${value.name} ${formatShape(value.shape)}: ${why}`);
    const given = this.feeds.filter((value) => {
      const feed = feeds[value.name];
      if (!feed) {
        if (this.#unused.includes(value)) return false;
        throw mismatch(value, 'it is missing');
      }
      if (feed.dtype !== value.dtype) {
        throw new Fr1Error('DTYPE_MISMATCH', `feed ${value.name} is ${feed.dtype}, the graph takes ${value.dtype}`);
      }
      if (feed.shape.length !== value.rank) throw mismatch(value, `got rank ${feed.shape.length}`);
      return true;
    });
    const sizes = solveSizes(given.map(({ name, shape }) => [shape, feeds[name]!.shape]));
    for (const value of given) {
      const feed = feeds[value.name]!;
      value.shape.forEach((dim, axis) => {
        const expected = evaluateDim(dim, sizes);
        if (expected !== feed.shape[axis]) {
          throw mismatch(value, `axis ${axis} (${dim}) is ${feed.shape[axis]}, expected ${expected}`);
        }
      });
    }
    return sizes;
  }
}
