/**
 * AdamW with decoupled weight decay as an ONNX graph over flat buffers; weights and moments are updated in place.
 *
 *     p <- p (1 - lr wd);  m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2
 *     p <- p - lr / (1 - b1^t) * m / (sqrt(v) / sqrt(1 - b2^t) + eps)
 *
 * @see Loshchilov & Hutter 2019, arXiv:1711.05101; the order of operations is PyTorch's
 */
import { Graph } from '../autodiff/graph.ts';
import { Add } from '../ops/add.ts';
import { Div } from '../ops/div.ts';
import { Mul } from '../ops/mul.ts';
import { Sqrt } from '../ops/sqrt.ts';
import { Sub } from '../ops/sub.ts';
import { Program, type SessionSource } from '../program.ts';
import { float32, type HostTensor } from '../tensor.ts';
import type { FlatBuffer, ParameterStore } from './parameter-store.ts';

export interface AdamWOptions {
  /** @default [0.9, 0.999] */
  readonly betas?: readonly [number, number];
  /** @default 1e-8 */
  readonly epsilon?: number;
  /** @default 0 */
  readonly weightDecay?: number;
}

function adamWGraph() {
  const graph = new Graph();
  const vector = (name: string) => graph.input(name, 'float32', ['N']);
  const scalar = (name: string) => graph.input(name, 'float32', []);
  const [p, g, m, v] = [vector('p'), vector('g'), vector('m'), vector('v')];
  const mNext = Add(Mul(m, scalar('beta1')), Mul(g, scalar('one_minus_beta1')));
  const vNext = Add(Mul(v, scalar('beta2')), Mul(Mul(g, g), scalar('one_minus_beta2')));
  const root = Add(Div(Sqrt(vNext), scalar('root_correction2')), scalar('epsilon'));
  const pNext = Sub(Mul(p, scalar('keep')), Mul(Div(mNext, root), scalar('step_size')));
  return { graph, outputs: { p_next: pNext, m_next: mNext, v_next: vNext } };
}

export class AdamW {
  readonly #program: Program;
  readonly #store: ParameterStore;
  readonly #options: Required<AdamWOptions>;
  /** First moment. */
  readonly m: FlatBuffer;
  /** Second moment. */
  readonly v: FlatBuffer;
  /** Updates done so far. */
  steps = 0;

  private constructor(program: Program, store: ParameterStore, options: Required<AdamWOptions>) {
    this.#program = program;
    this.#store = store;
    this.#options = options;
    this.m = store.buffer();
    this.v = store.buffer();
  }

  static async create(source: SessionSource, store: ParameterStore, options: AdamWOptions = {}): Promise<AdamW> {
    const { graph, outputs } = adamWGraph();
    const program = await Program.compile(source, graph, outputs, { key: 'adamw' });
    return new AdamW(program, store, {
      betas: options.betas ?? [0.9, 0.999],
      epsilon: options.epsilon ?? 1e-8,
      weightDecay: options.weightDecay ?? 0,
    });
  }

  /** One update of all trainable weights from flat gradients, which are left as they are. */
  async step(gradients: FlatBuffer, learningRate: number, signal?: AbortSignal): Promise<void> {
    this.steps++;
    const { decayed, flat } = this.#store;
    await this.#update(gradients, 0, decayed, learningRate, this.#options.weightDecay, signal);
    await this.#update(gradients, decayed, flat.length, learningRate, 0, signal);
  }

  async release(): Promise<void> {
    await this.#program.release();
  }

  async #update(g: FlatBuffer, from: number, to: number, learningRate: number, decay: number, signal?: AbortSignal) {
    if (from === to) return;
    const { betas, epsilon } = this.#options;
    const part = (buffer: FlatBuffer): HostTensor => float32([to - from], buffer.subarray(from, to));
    const scalar = (value: number) => float32([], Float32Array.of(value));
    const [p, m, v] = [part(this.#store.flat), part(this.m), part(this.v)];
    await this.#program.run(
      {
        p,
        m,
        v,
        g: part(g),
        beta1: scalar(betas[0]),
        one_minus_beta1: scalar(1 - betas[0]),
        beta2: scalar(betas[1]),
        one_minus_beta2: scalar(1 - betas[1]),
        root_correction2: scalar(Math.sqrt(1 - betas[1] ** this.steps)),
        epsilon: scalar(epsilon),
        keep: scalar(1 - learningRate * decay),
        step_size: scalar(learningRate / (1 - betas[0] ** this.steps)),
      },
      { into: { p_next: p, m_next: m, v_next: v }, signal },
    );
  }
}
