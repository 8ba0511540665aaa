/**
 * A Qwen2.5-VL model with weights in host memory: log-probabilities of target tokens, and gradients of a loss over them.
 *
 * The loss is a function of the targets' log-probabilities; recipes give it as a graph (`LossBuilder`).
 */
import { createHash } from 'node:crypto';
import { backward } from '../../autodiff/backward.ts';
import { Graph, type Value } from '../../autodiff/graph.ts';
import { attention } from '../../nn/attention.ts';
import { GatherRows } from '../../ops/gather-rows.ts';
import { TokenLogProb } from '../../ops/token-log-prob.ts';
import { type FlatBuffer, ParameterStore } from '../../optim/parameter-store.ts';
import { type Feeds, Program, type SessionSource } from '../../program.ts';
import type { HostTensor } from '../../tensor.ts';
import type { Batch } from './batch.ts';
import type { Qwen25VLConfig } from './config.ts';
import { type ParameterSpec, parameterSpecs } from './parameters.ts';
import { embedTokens, textHead, textInputs, textModel } from './text.ts';
import { type VisionLayoutKind, visionInputs, visionModel } from './vision.ts';

/** Which towers are trained; all by default. */
export interface TrainableTowers {
  readonly vision: boolean;
  readonly projector: boolean;
  readonly text: boolean;
}

export const ALL_TOWERS: TrainableTowers = { vision: true, projector: true, text: true };

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

/** Builds the graph from tokens and pixels to the log-probabilities of the targets [N]. */
export function logProbGraph(
  config: Qwen25VLConfig,
  visionKind: VisionLayoutKind | null,
): { graph: Graph; logProbs: Value; logits: Value; imageEmbeddings: Value | null } {
  const graph = new Graph();
  const text = textInputs(graph, config.text);
  const imageEmbeddings = visionKind
    ? graph.scope('vision', () => visionModel(graph, config.vision, visionInputs(graph, config.vision, visionKind)))
    : null;
  const images = imageEmbeddings && {
    embeddings: imageEmbeddings,
    index: graph.input('slot', 'int32', ['B*T']),
    uses: graph.input('slot_uses', 'int32', [imageEmbeddings.dim(0), 'R']),
  };
  const embeddings = embedTokens(graph, config, text, images);
  const hidden = textModel(graph, config.text, embeddings, text, (q, k, v) => attention(q, k, v, text.bias));
  const labelled = GatherRows(
    hidden,
    graph.input('label_index', 'int32', ['N']),
    graph.input('label_uses', 'int32', ['B*T', 1]),
  );
  const logits = textHead(graph, config, labelled);
  return { graph, logProbs: TokenLogProb(logits, graph.input('pairs', 'int64', ['N', 2])), logits, imageEmbeddings };
}

export class TrainingModel {
  readonly config: Qwen25VLConfig;
  readonly store: ParameterStore;
  readonly #source: SessionSource;
  readonly #programs = new Map<string, Promise<Program>>();
  readonly #architecture: string;

  constructor(source: SessionSource, config: Qwen25VLConfig, towers: TrainableTowers = ALL_TOWERS) {
    this.#source = source;
    this.config = config;
    this.store = new ParameterStore(
      parameterSpecs(config).map(({ name, shape, kind, tower }: ParameterSpec) => ({
        name,
        shape,
        trainable: towers[tower],
        decay: kind !== 'vector',
      })),
    );
    this.#architecture = createHash('sha256').update(JSON.stringify({ config, towers })).digest('hex').slice(0, 16);
  }

  /** Log-probabilities of the batch's targets [N]. */
  async logProbs(batch: Batch, signal?: AbortSignal): Promise<Float32Array> {
    if (batch.targets.length === 0) return new Float32Array(0);
    const program = await this.#program(`log-probs:${batch.visionKind}`, () => {
      const { graph, logProbs } = logProbGraph(this.config, batch.visionKind);
      return { graph, outputs: { log_probs: logProbs } };
    });
    const result = await program.run(this.#feeds(program, batch.feeds), { signal });
    return result['log_probs']!.data as Float32Array;
  }

  /**
   * Loss and gradients of one micro-batch.
   *
   * @param inputs feeds of the loss beyond those of the batch, each [N] or scalar
   * @param gradients overwritten with the gradients of all trained weights
   */
  async lossAndGradients(
    batch: Batch,
    loss: LossBuilder,
    inputs: Feeds,
    gradients: FlatBuffer,
    signal?: AbortSignal,
  ): Promise<LossResult> {
    const trained = this.store.trainable.map(({ name }) => name);
    const program = await this.#program(`loss:${loss.key}:${batch.visionKind}`, () => {
      const { graph, logProbs } = logProbGraph(this.config, batch.visionKind);
      const built = loss.build(graph, logProbs);
      const parameters = trained.flatMap((name) => graph.find(name) ?? []);
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
    const result = await program.run(this.#feeds(program, { ...batch.feeds, ...inputs }), { into, signal });
    const ids = batch.feeds['ids']!.data as Int32Array;
    const terms: Record<string, HostTensor> = {};
    for (const [output, tensor] of Object.entries(result)) {
      if (output.startsWith('term:')) terms[output.slice('term:'.length)] = tensor;
      if (!output.startsWith('rows:')) continue;
      const name = output.slice(output.indexOf(':', 'rows:'.length) + 1);
      addRows(this.store.view(gradients, name).data, ids, tensor.data as Float32Array, tensor.shape[1]!);
    }
    return { loss: Number(result['loss']!.data[0]), terms };
  }

  async release(): Promise<void> {
    for (const program of this.#programs.values()) await (await program).release();
    this.#programs.clear();
  }

  #feeds(program: Program, feeds: Feeds): Feeds {
    const all: Record<string, HostTensor> = {};
    for (const { name } of program.feeds) {
      const tensor = feeds[name] ?? this.store.tensors[name];
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

/** table[ids[i]] += rows[i], in order: the sum is the same on every run. */
function addRows(table: Float32Array, ids: Int32Array, rows: Float32Array, width: number): void {
  for (let i = 0; i < ids.length; i++) {
    const to = ids[i]! * width;
    const from = i * width;
    for (let c = 0; c < width; c++) table[to + c] = table[to + c]! + rows[from + c]!;
  }
}
