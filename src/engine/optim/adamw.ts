/**
 * AdamW with decoupled weight decay as an ONNX graph over flat buffers; weights and moments are updated in place, on the
 * host or on the device where the weights are.
 *
 *     p <- p (1 - lr wd);  m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2
 *     p <- p - lr / (1 - b1^t) * m / (sqrt(v) / sqrt(1 - b2^t) + eps)
 *
 * Weights that no batch of an update reaches keep their values, moments and count t, as PyTorch passes over parameters whose
 * gradient is None: those of vision tower and projector where no batch has an image.
 *
 * @see Loshchilov & Hutter 2019, arXiv:1711.05101; the order of operations is PyTorch's
 */
import { Graph } from '../autodiff/graph.ts';
import { peakLiveBytes } from '../autodiff/live-bytes.ts';
import { Add } from '../ops/add.ts';
import { Div } from '../ops/div.ts';
import { Mul } from '../ops/mul.ts';
import { Sqrt } from '../ops/sqrt.ts';
import { Sub } from '../ops/sub.ts';
import { Program, type SessionSource } from '../program.ts';
import { float32, type HostTensor, type Tensor } from '../tensor.ts';
import type { DeviceParameters, DeviceVector } from './device-parameters.ts';
import { type DeviceGradients, type GradientBuffer, isOnHost } from './gradients.ts';
import type { FlatBuffer, ParameterStore, StoredGroup } from './parameter-store.ts';

export interface AdamWOptions {
  /** @default [0.9, 0.999] */
  readonly betas?: readonly [number, number];
  /** @default 1e-8 */
  readonly epsilon?: number;
  /** @default 0 */
  readonly weightDecay?: number;
}

export interface UpdateOptions {
  readonly hasImages?: boolean;
  readonly signal?: AbortSignal | undefined;
}

/** Weights updated at a time on the host, so that what the operators hand on stays in the caches and takes little memory. */
const BLOCK = 2 ** 20;

/** @param isScaled whether gradients are multiplied by an input `gradient_scale` first */
function adamWGraph(isScaled: boolean) {
  const graph = new Graph();
  const vector = (name: string) => graph.input(name, 'float32', ['N']);
  const scalar = (name: string) => graph.input(name, 'float32', []);
  const [p, gradient, m, v] = [vector('p'), vector('g'), vector('m'), vector('v')];
  const g = isScaled ? Mul(gradient, scalar('gradient_scale')) : gradient;
  const mNext = Add(Mul(m, scalar('beta1')), Mul(g, scalar('one_minus_beta1')));
  const vNext = Add(Mul(v, scalar('beta2')), Mul(Mul(g, g), scalar('one_minus_beta2')));
  const root = Add(Div(Sqrt(vNext), scalar('root_correction2')), scalar('epsilon'));
  const pNext = Sub(Mul(p, scalar('keep')), Mul(Div(mNext, root), scalar('step_size')));
  return { graph, outputs: { p_next: pNext, m_next: mNext, v_next: vNext } };
}

/** Bytes that an update of so many weights on the host holds beside weights, gradients and moments. */
export function updateBytes(weights: number): number {
  const { graph, outputs } = adamWGraph(false);
  return peakLiveBytes(graph, outputs, new Map([['N', Math.min(BLOCK, weights)]]));
}

/** Tensors of one length that an update reads and writes. */
interface UpdateTensors {
  readonly p: Tensor;
  readonly g: Tensor;
  readonly m: Tensor;
  readonly v: Tensor;
}

export class AdamW {
  readonly #program: Program;
  readonly #source: SessionSource;
  readonly #store: ParameterStore;
  readonly #options: Required<AdamWOptions>;
  /** First moment; out of date where the weights are on a device, until `pull`. */
  readonly m: FlatBuffer;
  /** Second moment, likewise. */
  readonly v: FlatBuffer;
  /** Moments on the device of the weights, from the first update on. */
  #onDevice: { readonly device: DeviceParameters; readonly m: DeviceVector; readonly v: DeviceVector } | undefined;
  /** Updates done so far. */
  steps = 0;
  /** Those of them that reached the weights which need images. */
  stepsWithImages = 0;

  private constructor(program: Program, source: SessionSource, store: ParameterStore, options: Required<AdamWOptions>) {
    this.#program = program;
    this.#source = source;
    this.#store = store;
    this.#options = options;
    this.m = store.buffer();
    this.v = store.buffer();
  }

  static async create(source: SessionSource, store: ParameterStore, options: AdamWOptions = {}): Promise<AdamW> {
    const isScaled = source.memory !== undefined;
    const { graph, outputs } = adamWGraph(isScaled);
    const program = await Program.compile(source, graph, outputs, { key: isScaled ? 'adamw:scaled' : 'adamw' });
    return new AdamW(program, source, store, {
      betas: options.betas ?? [0.9, 0.999],
      epsilon: options.epsilon ?? 1e-8,
      weightDecay: options.weightDecay ?? 0,
    });
  }

  /**
   * One update of the trainable weights from gradients, which are left as they are.
   *
   * @param options.hasImages whether any batch of the update had an image. @default true
   */
  async step(gradients: GradientBuffer, learningRate: number, options: UpdateOptions = {}): Promise<void> {
    const { hasImages = true, signal } = options;
    this.steps++;
    if (hasImages) this.stepsWithImages++;
    const isReached = ({ needsImages }: StoredGroup) => hasImages || !needsImages;
    if (!isOnHost(gradients)) return this.#stepOnDevice(gradients, learningRate, isReached, signal);
    const { flat, groups } = this.#store;
    for (const group of groups.filter(isReached)) {
      for (let { from } = group; from < group.to; from += BLOCK) {
        const to = Math.min(group.to, from + BLOCK);
        const part = (buffer: FlatBuffer): HostTensor => float32([to - from], buffer.subarray(from, to));
        const tensors = { p: part(flat), g: part(gradients), m: part(this.m), v: part(this.v) };
        await this.#update(tensors, {}, learningRate, group, signal);
      }
    }
  }

  /** Copies the moments back from their device, if they are on one. */
  async pull(): Promise<void> {
    if (this.#onDevice === undefined) return;
    const { device, m, v } = this.#onDevice;
    await device.download(m, this.m);
    await device.download(v, this.v);
  }

  async release(): Promise<void> {
    await this.#program.release();
  }

  async #stepOnDevice(
    { parts, scale }: DeviceGradients,
    learningRate: number,
    isReached: (group: StoredGroup) => boolean,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    this.#onDevice ??= await this.#place();
    const { device, m, v } = this.#onDevice;
    for (const [i, group] of device.groups.entries()) {
      if (!isReached(group)) continue;
      const tensors = { p: device.weights[i]!, g: parts[i]!, m: m[i]!, v: v[i]! };
      const scaling = { gradient_scale: float32([], Float32Array.of(scale)) };
      await this.#update(tensors, scaling, learningRate, group, signal);
    }
    await device.refresh();
  }

  async #place() {
    const device = (await this.#store.onDevice(this.#source))!;
    const [m, v] = [device.vector(), device.vector()];
    await device.upload(this.m, m);
    await device.upload(this.v, v);
    return { device, m, v };
  }

  async #update(
    { p, g, m, v }: UpdateTensors,
    scaling: Readonly<Record<string, Tensor>>,
    learningRate: number,
    { decay, needsImages }: StoredGroup,
    signal: AbortSignal | undefined,
  ) {
    const { betas, epsilon, weightDecay } = this.#options;
    const steps = needsImages ? this.stepsWithImages : this.steps;
    const scalar = (value: number) => float32([], Float32Array.of(value));
    await this.#program.run(
      {
        ...scaling,
        p,
        m,
        v,
        g,
        beta1: scalar(betas[0]),
        one_minus_beta1: scalar(1 - betas[0]),
        beta2: scalar(betas[1]),
        one_minus_beta2: scalar(1 - betas[1]),
        root_correction2: scalar(Math.sqrt(1 - betas[1] ** steps)),
        epsilon: scalar(epsilon),
        keep: scalar(1 - learningRate * (decay ? weightDecay : 0)),
        step_size: scalar(learningRate / (1 - betas[0] ** steps)),
      },
      { into: { p_next: p, m_next: m, v_next: v }, signal },
    );
  }
}
