/**
 * A Qwen2.5-VL model that is trained: log-probabilities of target tokens, and gradients of a loss over them.
 *
 * The loss is a function of the targets' log-probabilities; recipes give it as a graph (`LossBuilder`).
 */
import { createHash } from 'node:crypto';
import { backward } from '../../autodiff/backward.ts';
import type { Graph, Value } from '../../autodiff/graph.ts';
import { dropoutFeeds } from '../../nn/dropout.ts';
import { ModelGraph, type WeightLayout } from '../../nn/model-graph.ts';
import type { DeviceParameters } from '../../optim/device-parameters.ts';
import { gradientOutputs } from '../../optim/gradient-vectors.ts';
import { type DeviceGradients, type GradientBuffer, GradientSum, isOnHost } from '../../optim/gradients.ts';
import { type FlatBuffer, ParameterStore, type StoredParameter } from '../../optim/parameter-store.ts';
import { type Feeds, type HostFeeds, Program, type SessionSource } from '../../program.ts';
import { float32, type HostTensor, int64, type Tensor } from '../../tensor.ts';
import { ModelWeights } from '../../weights/model-weights.ts';
import type { Batch } from './batch.ts';
import type { Qwen25VLConfig } from './config.ts';
import { defaultExecution, type Execution } from './execution.ts';
import { type ForwardValues, forward } from './forward.ts';
import { LayeredModel } from './layered.ts';
import { type ParameterSpec, parameterSpecs } from './parameters.ts';
import { targetLogProbs } from './text.ts';
import type { VisionLayoutKind } from './vision.ts';

/** A scalar loss over log-probabilities [N], with further inputs of its own and terms to report. */
export interface LossBuilder {
  /** Content key: equal keys build equal graphs. */
  readonly key: string;
  build(graph: Graph, logProbs: Value): { readonly loss: Value; readonly terms?: Readonly<Record<string, Value>> };
}

export interface LossResult {
  readonly loss: number;
  readonly terms: Readonly<Record<string, HostTensor>>;
}

export interface GraphOptions {
  /** @default false */
  readonly hasDropout?: boolean;
  /** Divides the logits. @default 1 */
  readonly temperature?: number;
}

/** Builds the graph from tokens and pixels to the log-probabilities of the targets [N]. */
export function logProbGraph(
  config: Qwen25VLConfig,
  visionKind: VisionLayoutKind | null,
  layout?: WeightLayout,
  options: GraphOptions = {},
): { graph: ModelGraph; logProbs: Value } & ForwardValues {
  const graph = new ModelGraph(layout, options);
  const values = forward(graph, config, visionKind);
  return { graph, logProbs: targetLogProbs(graph, values.logits, options.temperature ?? 1), ...values };
}

/** Builds the graph of a loss and of the gradients of all trained weights. */
export function lossGraph(
  config: Qwen25VLConfig,
  visionKind: VisionLayoutKind | null,
  weights: WeightLayout & { readonly trained: Pick<ParameterStore, 'parameters'> },
  loss: LossBuilder,
  options: GraphOptions = {},
): { graph: ModelGraph; outputs: Record<string, Value> } {
  const { graph, logProbs } = logProbGraph(config, visionKind, weights, options);
  const built = loss.build(graph, logProbs);
  const parameters = weights.trained.parameters.flatMap(({ name }) => graph.find(name) ?? []);
  const { dense, sparse } = backward(built.loss, parameters);
  const outputs: Record<string, Value> = { loss: built.loss };
  for (const [name, value] of Object.entries(built.terms ?? {})) outputs[`term:${name}`] = value;
  for (const [parameter, value] of dense) outputs[`grad:${parameter.name}`] = value;
  for (const [parameter, parts] of sparse) {
    parts.forEach((part, i) => {
      outputs[`rows:${i}:${parameter.name}`] = part.rows;
    });
  }
  return { graph, outputs };
}

/** Weights of a model that is trained whole, all zero. */
export function zeroWeights(config: Qwen25VLConfig): ModelWeights {
  return new ModelWeights(new ParameterStore(parameterSpecs(config).map(trainedParameter)));
}

/** A weight as it is trained: vectors (biases, gains) are left out of weight decay. */
export function trainedParameter({ name, shape, kind, tower }: ParameterSpec): StoredParameter {
  return { name, shape, decay: kind !== 'vector', needsImages: tower !== 'text' };
}

export interface StepOptions {
  readonly noise?: readonly (number | string)[];
  readonly signal?: AbortSignal | undefined;
}

export class TrainingModel {
  readonly config: Qwen25VLConfig;
  readonly weights: ModelWeights;
  readonly execution: Execution;
  /** Log-probabilities are those at this temperature: logits are divided by it. */
  readonly temperature: number;
  readonly #source: SessionSource;
  readonly #programs = new Map<string, Promise<Program>>();
  readonly #architecture: string;
  readonly #layered: LayeredModel | null;

  /**
   * @param execution on a device with memory of its own the model always runs as a whole
   * @param temperature see the member
   */
  constructor(
    source: SessionSource,
    config: Qwen25VLConfig,
    weights: ModelWeights = zeroWeights(config),
    execution: Execution = defaultExecution(config),
    temperature = 1,
  ) {
    this.#source = source;
    this.config = config;
    this.weights = weights;
    this.temperature = temperature;
    this.#architecture = createHash('sha256')
      .update(JSON.stringify({ config, weights: weights.layoutKey, temperature }))
      .digest('hex')
      .slice(0, 16);
    this.execution = source.memory ? 'whole' : execution;
    this.#layered = this.execution === 'layered' ? new LayeredModel(source, config, weights, temperature) : null;
  }

  /** The weights that are trained. */
  get store(): ParameterStore {
    return this.weights.trained;
  }

  /** Log-probabilities of the batch's targets [N]. */
  async logProbs(batch: Batch, signal?: AbortSignal): Promise<Float32Array> {
    if (batch.targets.length === 0) return new Float32Array(0);
    if (this.#layered) return this.#layered.logProbs(batch.feeds, batch.visionKind, { signal });
    const program = await this.#program(`log-probs:${batch.visionKind}`, () => {
      const { graph, logProbs } = logProbGraph(this.config, batch.visionKind, this.weights, {
        temperature: this.temperature,
      });
      return { graph, outputs: { log_probs: logProbs } };
    });
    const result = await program.run(await this.#feeds(program, batch.feeds), { signal });
    return result['log_probs']!.data as Float32Array;
  }

  /**
   * Loss and gradients of one micro-batch.
   *
   * @param inputs feeds of the loss beyond those of the batch, each [N] or scalar
   * @param gradients overwritten with the gradients of all trained weights
   * @param noise keys of the random stream of dropout, e.g. seed, step and micro-batch; without them nothing is dropped
   */
  async lossAndGradients(
    batch: Batch,
    loss: LossBuilder,
    inputs: HostFeeds,
    gradients: GradientBuffer,
    options: StepOptions = {},
  ): Promise<LossResult> {
    return isOnHost(gradients)
      ? this.#gradientsOnHost(batch, loss, inputs, gradients, options)
      : this.#gradientsOnDevice(batch, loss, inputs, gradients, options);
  }

  /** A sum for the gradients of this model's updates, where its weights are. */
  async gradientSum(): Promise<GradientSum> {
    return new GradientSum(this.store, await this.store.onDevice(this.#source));
  }

  async #gradientsOnDevice(
    batch: Batch,
    loss: LossBuilder,
    inputs: HostFeeds,
    { parts }: DeviceGradients,
    { noise, signal }: StepOptions,
  ): Promise<LossResult> {
    const device = (await this.store.onDevice(this.#source)) as DeviceParameters;
    const { paddingId } = this.config.text;
    const hasDropout = this.#hasDropout(noise);
    const key = `loss-on-device:${loss.key}:${batch.visionKind}${hasDropout ? ':dropout' : ''}`;
    const program = await this.#program(key, () => {
      const { graph, logProbs } = logProbGraph(this.config, batch.visionKind, this.weights, {
        hasDropout,
        temperature: this.temperature,
      });
      const built = loss.build(graph, logProbs);
      const outputs: Record<string, Value> = {
        loss: built.loss,
        ...gradientOutputs(built.loss, device.groups, {
          isJoined: !device.hasViews,
          hasPadding: paddingId !== undefined,
        }),
      };
      for (const [name, value] of Object.entries(built.terms ?? {})) outputs[`term:${name}`] = value;
      return { graph, outputs };
    });
    const into = Object.fromEntries<Tensor>(
      device.hasViews
        ? device.views(parts).map(([name, tensor]) => [`gradient:${name}`, tensor])
        : parts.map((part, i) => [`gradients:${i}`, part]),
    );
    const ids = batch.feeds['ids']!.data as Int32Array;
    const rows = {
      ids_rows: int64([ids.length, 1], ids),
      ids_counted: float32(
        [ids.length, 1],
        Float32Array.from(ids, (id) => (id === paddingId ? 0 : 1)),
      ),
    };
    const random = noise && hasDropout ? dropoutFeeds(program.feeds, batch.feeds, noise) : {};
    const feeds = await this.#feeds(program, { ...batch.feeds, ...rows, ...inputs, ...random });
    return lossResult(await program.run(feeds, { into, signal }));
  }

  async #gradientsOnHost(
    batch: Batch,
    loss: LossBuilder,
    inputs: HostFeeds,
    gradients: FlatBuffer,
    { noise, signal }: StepOptions,
  ): Promise<LossResult> {
    const trained = this.store.parameters.map(({ name }) => name);
    const hasDropout = this.#hasDropout(noise);
    if (this.#layered) {
      return this.#layeredGradients(this.#layered, batch, loss, inputs, gradients, {
        ...(hasDropout ? { noise } : {}),
        signal,
      });
    }
    const program = await this.#program(`loss:${loss.key}:${batch.visionKind}${hasDropout ? ':dropout' : ''}`, () => {
      const { temperature } = this;
      return lossGraph(this.config, batch.visionKind, this.weights, loss, { hasDropout, temperature });
    });
    const into: Record<string, HostTensor> = {};
    const written = new Set<string>();
    for (const output of program.outputNames) {
      if (!output.startsWith('grad:')) continue;
      const name = output.slice('grad:'.length);
      into[output] = this.store.view(gradients, name);
      written.add(name);
    }
    for (const name of trained) if (!written.has(name)) this.store.view(gradients, name).data.fill(0);
    const random = noise && hasDropout ? dropoutFeeds(program.feeds, batch.feeds, noise) : {};
    const feeds = await this.#feeds(program, { ...batch.feeds, ...inputs, ...random });
    const result = await program.run(feeds, { into, signal });
    const ids = batch.feeds['ids']!.data as Int32Array;
    for (const [output, tensor] of Object.entries(result)) {
      if (!output.startsWith('rows:')) continue;
      const name = output.slice(output.indexOf(':', 'rows:'.length) + 1);
      this.#addRows(this.store.view(gradients, name).data, ids, tensor);
    }
    return lossResult(result);
  }

  #hasDropout(noise: StepOptions['noise']): boolean {
    return noise !== undefined && [...this.weights.adapters.values()].some(({ dropout }) => dropout > 0);
  }

  async #layeredGradients(
    layered: LayeredModel,
    batch: Batch,
    loss: LossBuilder,
    inputs: HostFeeds,
    gradients: FlatBuffer,
    options: StepOptions,
  ): Promise<LossResult> {
    const written = new Set<string>();
    const gradientOf = (name: string) => {
      written.add(name);
      return this.store.view(gradients, name);
    };
    const { embeddingRows, ...result } = await layered.lossAndGradients(
      batch.feeds,
      batch.visionKind,
      loss,
      inputs,
      gradientOf,
      options,
    );
    for (const { name } of this.store.parameters) {
      if (!written.has(name)) this.store.view(gradients, name).data.fill(0);
    }
    const ids = batch.feeds['ids']!.data as Int32Array;
    for (const rows of embeddingRows) {
      this.#addRows(this.store.view(gradients, 'model.embed_tokens.weight').data, ids, rows);
    }
    return result;
  }

  /** table[ids[i]] += rows[i], in order: the sum is the same on every run. Lookups of the padding token do not count. */
  #addRows(table: Float32Array, ids: Int32Array, { data, shape }: HostTensor): void {
    const width = shape[1]!;
    const rows = data as Float32Array;
    for (let i = 0; i < ids.length; i++) {
      if (ids[i] === this.config.text.paddingId) continue;
      const to = ids[i]! * width;
      const from = i * width;
      for (let c = 0; c < width; c++) table[to + c] = table[to + c]! + rows[from + c]!;
    }
  }

  async release(): Promise<void> {
    await this.#layered?.release();
    for (const program of this.#programs.values()) await (await program).release();
    this.#programs.clear();
  }

  async #feeds(program: Program, feeds: Feeds): Promise<Feeds> {
    const find = await this.weights.finder(this.#source);
    const all: Record<string, Tensor> = {};
    for (const { name } of program.feeds) {
      const tensor = feeds[name] ?? find(name);
      if (tensor) all[name] = tensor;
    }
    return all;
  }

  #program(key: string, build: () => { graph: Graph; outputs: Record<string, Value> }): Promise<Program> {
    let program = this.#programs.get(key);
    if (!program) {
      const { graph, outputs } = build();
      program = Program.compile(this.#source, graph, outputs, { key: `qwen2_5_vl:${this.#architecture}:${key}` });
      this.#programs.set(key, program);
    }
    return program;
  }
}

function lossResult(result: Readonly<Record<string, HostTensor>>): LossResult {
  const terms: Record<string, HostTensor> = {};
  for (const [output, tensor] of Object.entries(result)) {
    if (output.startsWith('term:')) terms[output.slice('term:'.length)] = tensor;
  }
  return { loss: Number(result['loss']!.data[0]), terms };
}
