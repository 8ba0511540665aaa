/**
 * The model cut into pieces that are run one after the other: activations in, activations out, and for training the way
 * back, which computes a piece's inner values again. Layers of one kind share a session; what differs are the weights
 * that are fed. So memory holds the weights of one layer in float32 at a time, and activations only at the borders.
 */
import { createHash } from 'node:crypto';
import { pullBack } from '../../autodiff/backward.ts';
import type { Value } from '../../autodiff/graph.ts';
import { dropoutFeeds } from '../../nn/dropout.ts';
import { ModelGraph, type WeightLayout } from '../../nn/model-graph.ts';
import { type HostFeeds, Program, type SessionSource } from '../../program.ts';
import type { HostTensor } from '../../tensor.ts';
import type { ModelWeights } from '../../weights/model-weights.ts';

export interface SegmentValues {
  /** Activations that other pieces computed, by the name under which they are fed. */
  readonly inputs: Readonly<Record<string, Value>>;
  readonly outputs: Readonly<Record<string, Value>>;
}

export interface Segment {
  /** What graphs of this kind have in common; equal kinds over equally stored weights share a session. */
  readonly kind: string;
  /** Whether its sessions keep their memory from run to run, for pieces that run for every token. @default false */
  readonly keepsMemory?: boolean;
  /** Weights that begin with `built` in the graph begin with `fed` in the model. */
  readonly layer?: { readonly built: string; readonly fed: string };
  build(graph: ModelGraph): SegmentValues;
}

export interface RunSegmentOptions {
  /** Keys of the random stream of dropout; without them nothing is dropped. Each layer has a stream of its own. */
  readonly noise?: Noise | undefined;
  readonly into?: Readonly<Record<string, HostTensor>>;
  readonly signal?: AbortSignal | undefined;
}

export type Noise = readonly (number | string)[];

/** Gradients of one piece. */
export interface SegmentGradients {
  /** With respect to the wanted inputs. */
  readonly inputs: Readonly<Record<string, HostTensor>>;
  /** Rows of an embedding table, one list per use. */
  readonly rows: Readonly<Record<string, readonly HostTensor[]>>;
}

interface Compiled {
  readonly program: Program;
  /** Name in the graph and in the model of each weight that is fed. */
  readonly weights: readonly (readonly [built: string, fed: string])[];
  /** Trained weights of which the graph puts out the gradient: output and name in the model. */
  readonly gradients: readonly (readonly [output: string, fed: string])[];
}

export class Segments {
  readonly #source: SessionSource;
  readonly #weights: ModelWeights;
  readonly #architecture: string;
  readonly #compiled = new Map<string, Promise<Compiled>>();
  readonly #programs = new Map<string, Promise<Program>>();

  /** @param architecture content key of the model's configuration */
  constructor(source: SessionSource, weights: ModelWeights, architecture: string) {
    this.#source = source;
    this.#weights = weights;
    this.#architecture = architecture;
  }

  async run(segment: Segment, given: HostFeeds, options: RunSegmentOptions = {}): Promise<Record<string, HostTensor>> {
    const { noise, ...run } = options;
    const compiled = await this.#compile(segment, noise ? 'forward:dropout' : 'forward', () => {
      const graph = this.#graph(segment, noise !== undefined);
      return { graph, outputs: segment.build(graph).outputs };
    });
    return compiled.program.run(this.#feeds(compiled, segment, given, noise), run);
  }

  /**
   * Runs a piece again and its way back.
   *
   * @param outputGradients by name of the output
   * @param wanted inputs whose gradient is needed
   * @param gradientOf where the gradient of a trained weight is written
   */
  async pullBack(
    segment: Segment,
    given: HostFeeds,
    outputGradients: HostFeeds,
    wanted: readonly string[],
    gradientOf: (name: string) => HostTensor,
    options: RunSegmentOptions = {},
  ): Promise<SegmentGradients> {
    const { noise, signal } = options;
    const direction = `back:${wanted.join(',')}${noise ? ':dropout' : ''}`;
    const compiled = await this.#compile(segment, direction, () => {
      const graph = this.#graph(segment, noise !== undefined);
      const values = segment.build(graph);
      const seeds = new Map(
        Object.entries(values.outputs).map(
          ([name, value]) => [value, graph.input(`d:${name}`, 'float32', value.shape)] as const,
        ),
      );
      const trained = graph.inputs.filter((value) => this.#isTrained(segment, value));
      const { dense, sparse } = pullBack(seeds, [...wanted.map((name) => values.inputs[name]!), ...trained]);
      const outputs: Record<string, Value> = {};
      for (const name of wanted) outputs[`d:${name}`] = dense.get(values.inputs[name]!)!;
      for (const value of trained) {
        const gradient = dense.get(value);
        if (gradient) outputs[`grad:${value.name}`] = gradient;
        sparse.get(value)?.forEach(({ rows }, i) => {
          outputs[`rows:${i}:${value.name}`] = rows;
        });
      }
      return { graph, outputs };
    });
    const into: Record<string, HostTensor> = {};
    for (const [output, name] of compiled.gradients) into[output] = gradientOf(name);
    const feeds: Record<string, HostTensor> = { ...given };
    for (const [name, gradient] of Object.entries(outputGradients)) feeds[`d:${name}`] = gradient;
    for (const [name, tensor] of Object.entries(options.into ?? {})) into[`d:${name}`] = tensor;
    const result = await compiled.program.run(this.#feeds(compiled, segment, feeds, noise), { into, signal });
    const rows: Record<string, HostTensor[]> = {};
    for (const [output, tensor] of Object.entries(result)) {
      if (!output.startsWith('rows:')) continue;
      const name = output.slice(output.indexOf(':', 'rows:'.length) + 1);
      rows[name] = [...(rows[name] ?? []), tensor];
    }
    return { inputs: Object.fromEntries(wanted.map((name) => [name, result[`d:${name}`]!])), rows };
  }

  /** Whether a piece has weights that are trained. */
  hasTrained(segment: Segment): boolean {
    const graph = this.#graph(segment);
    segment.build(graph);
    return graph.inputs.some((value) => this.#isTrained(segment, value));
  }

  async release(): Promise<void> {
    const programs = [...this.#programs.values()];
    this.#programs.clear();
    this.#compiled.clear();
    for (const program of programs) await (await program).release();
  }

  #feeds({ program, weights }: Compiled, segment: Segment, given: HostFeeds, noise: Noise | undefined): HostFeeds {
    const feeds: Record<string, HostTensor> = {};
    for (const { name } of program.feeds) {
      const tensor = given[name];
      if (tensor) feeds[name] = tensor;
    }
    for (const [built, fed] of weights) feeds[built] = this.#weights.tensor(fed);
    if (noise) Object.assign(feeds, dropoutFeeds(program.feeds, feeds, [...noise, segment.layer?.fed ?? segment.kind]));
    return feeds;
  }

  #graph(segment: Segment, hasDropout = false): ModelGraph {
    const weights = this.#weights;
    const layout: WeightLayout = {
      dtypeOf: (name) => weights.dtypeOf(fedName(segment, name)),
      adapterOf: (module) => weights.adapterOf(fedName(segment, module)),
    };
    return new ModelGraph(layout, { hasDropout });
  }

  #isTrained(segment: Segment, value: Value): boolean {
    return value.source.kind === 'parameter' && this.#weights.trained.find(fedName(segment, value.name)) !== undefined;
  }

  #compile(
    segment: Segment,
    direction: string,
    build: () => { graph: ModelGraph; outputs: Record<string, Value> | Readonly<Record<string, Value>> },
  ): Promise<Compiled> {
    const place = `${segment.kind}:${segment.layer?.fed ?? ''}:${direction}`;
    let compiled = this.#compiled.get(place);
    if (!compiled) {
      compiled = this.#compileNow(segment, direction, build());
      this.#compiled.set(place, compiled);
    }
    return compiled;
  }

  async #compileNow(
    segment: Segment,
    direction: string,
    { graph, outputs }: { graph: ModelGraph; outputs: Readonly<Record<string, Value>> },
  ): Promise<Compiled> {
    // Layers of a kind differ in nothing but how their weights are stored and which of them are trained.
    const parameters = graph.inputs.filter(({ source }) => source.kind === 'parameter');
    const stored = parameters.map((value) => [value.name, value.dtype, this.#isTrained(segment, value)]);
    const adapters = parameters.map(({ name }) =>
      this.#weights.adapterOf(fedName(segment, name.replace(/\.weight$/, ''))),
    );
    const signature = createHash('sha256')
      .update(JSON.stringify([this.#architecture, stored, adapters]))
      .digest('hex')
      .slice(0, 16);
    const key = `qwen2_5_vl:${segment.kind}:${direction}:${signature}`;
    let program = this.#programs.get(key);
    if (!program) {
      program = Program.compile(this.#source, graph, outputs, {
        key,
        session: { keepsMemory: segment.keepsMemory ?? false },
      });
      this.#programs.set(key, program);
    }
    const ready = await program;
    return {
      program: ready,
      weights: ready.feeds
        .filter(({ source }) => source.kind === 'parameter')
        .map(({ name }) => [name, fedName(segment, name)]),
      gradients: ready.outputNames
        .filter((name) => name.startsWith('grad:'))
        .map((name) => [name, fedName(segment, name.slice('grad:'.length))]),
    };
  }
}

function fedName({ layer }: Segment, name: string): string {
  return layer && name.startsWith(layer.built) ? layer.fed + name.slice(layer.built.length) : name;
}
