/**
 * Log-probabilities, gradients, prefill and decoding of a model that is run piece by piece (segments.ts): for weights
 * that would not fit in float32, or activations of all layers that would not. Same values as the whole graphs; training
 * costs one more forward pass.
 */
import { Fr1Error } from '../../../errors/fr1-error.ts';
import { backward } from '../../autodiff/backward.ts';
import { Graph, type Value } from '../../autodiff/graph.ts';
import { ruleKey, type ScoreRule } from '../../generate/sampler.ts';
import { attention } from '../../nn/attention.ts';
import { cachedAttention, cachedInput, cachePlaces, withNewToken } from '../../nn/cached-attention.ts';
import { GatherRows } from '../../ops/gather-rows.ts';
import { type Feeds, type HostFeeds, Program, type SessionSource } from '../../program.ts';
import { float32, type HostTensor, isHostTensor, sizeOf } from '../../tensor.ts';
import type { ModelWeights } from '../../weights/model-weights.ts';
import type { Qwen25VLConfig } from './config.ts';
import { scoresOf } from './scores.ts';
import { type Segment, Segments } from './segments.ts';
import { embedTokens, finalNorm, targetLogProbs, textHead, textInputs, textLayer, tokenEmbeddings } from './text.ts';
import type { LossBuilder, StepOptions } from './training-model.ts';
import { mergedUnits, patchEmbeddings, type VisionLayoutKind, visionBlock, visionInputs } from './vision.ts';

/** Bytes of logits that are computed at a time, where the head is not trained. */
export const LOGIT_BYTES = 256 * 1024 ** 2;

export interface LayeredGradients {
  readonly loss: number;
  readonly terms: Readonly<Record<string, HostTensor>>;
  /** Gradient of the token embeddings by position [B*T, C], where they are trained and looked up. */
  readonly embeddingRows: readonly HostTensor[];
}

export class LayeredModel {
  readonly #source: SessionSource;
  readonly #config: Qwen25VLConfig;
  readonly #segments: Segments;
  readonly #losses = new Map<string, Promise<Program>>();
  readonly #trained = new Map<Segment, boolean>();
  readonly #vision = new Map<VisionLayoutKind, VisionSegments>();
  readonly #text: TextSegments;

  /** @param temperature divides the logits of log-probabilities; generation has rules of its own */
  constructor(source: SessionSource, config: Qwen25VLConfig, weights: ModelWeights, temperature = 1) {
    this.#source = source;
    this.#config = config;
    this.#segments = new Segments(source, weights, JSON.stringify(config));
    this.#text = textSegments(config, temperature);
  }

  /** Log-probabilities of the targets [N]. */
  async logProbs(feeds: HostFeeds, kind: VisionLayoutKind | null, run: StepOptions = {}): Promise<Float32Array> {
    const images = kind && (await this.#images(feeds, kind, run)).at(-1)!;
    return this.#headLogProbs(feeds, await this.#labelledRows(feeds, images, run), run);
  }

  /** Logits of the labelled rows [N, V], and the embeddings of the images [M, C] in window order. */
  async forward(
    feeds: HostFeeds,
    kind: VisionLayoutKind | null,
    run: StepOptions = {},
  ): Promise<{ readonly logits: HostTensor; readonly imageEmbeddings: HostTensor | null }> {
    const imageEmbeddings = kind && (await this.#images(feeds, kind, run)).at(-1)!;
    const x = await this.#labelledRows(feeds, imageEmbeddings, run);
    const { vocabSize } = this.#config.text;
    const logits = float32([x.shape[0]!, vocabSize]);
    for (const { start, count, feeds: given } of this.#headParts(feeds, x)) {
      const data = logits.data.subarray(start * vocabSize, (start + count) * vocabSize);
      await this.#segments.run(this.#text.logits, given, {
        ...run,
        into: { logits: float32([count, vocabSize], data) },
      });
    }
    return { logits, imageEmbeddings };
  }

  /**
   * Loss of one micro-batch, and the gradients of all trained weights.
   *
   * @param gradientOf where the gradient of a weight is written; all are overwritten, those of embeddings added to
   */
  async lossAndGradients(
    feeds: HostFeeds,
    kind: VisionLayoutKind | null,
    loss: LossBuilder,
    inputs: HostFeeds,
    gradientOf: (name: string) => HostTensor,
    run: StepOptions,
  ): Promise<LayeredGradients> {
    const { labelled, layers, embed } = this.#text;
    const vision = kind ? this.#visionSegments(kind).all : [];
    const patches = kind ? await this.#images(feeds, kind, run) : null;
    const hidden = await this.#hidden(feeds, patches?.at(-1) ?? null, run);
    const last = hidden.pop()!;
    const { y: x } = await this.#segments.run(labelled, { ...feeds, x: last }, run);
    const logProbs = await this.#headLogProbs(feeds, x!, run);
    const result = await this.#loss(loss, logProbs, inputs, run);
    let flowing = await this.#headGradients(feeds, x!, result.gradient, gradientOf, run);

    const below = [...vision, embed, ...layers];
    const lowest = below.findIndex((segment) => this.#hasTrained(segment));
    const isNeeded = (segment: Segment) => lowest >= 0 && lowest < below.indexOf(segment);
    const back = async (segment: Segment, given: HostFeeds, gradient: HostTensor, wanted: readonly string[]) =>
      this.#segments.pullBack(segment, { ...feeds, ...given }, { y: gradient }, wanted, gradientOf, run);

    // Through a piece only while something below it, or in it, is trained.
    if (lowest < 0) return { ...result, embeddingRows: [] };
    flowing = (await back(labelled, { x: last }, flowing, ['x'])).inputs['x']!;
    for (let i = layers.length - 1; i >= 0; i--) {
      const layer = layers[i]!;
      const given = { x: hidden.pop()! };
      const goesOn = isNeeded(layer);
      if (!goesOn && !this.#hasTrained(layer)) return { ...result, embeddingRows: [] };
      const { inputs: gradients } = await back(layer, given, flowing, goesOn ? ['x'] : []);
      if (!goesOn) return { ...result, embeddingRows: [] };
      flowing = gradients['x']!;
    }
    const intoImages = vision.some((segment) => this.#hasTrained(segment));
    const given: HostFeeds = patches ? { images: patches.at(-1)! } : {};
    const embedding = await back(this.#embed(kind), given, flowing, intoImages ? ['images'] : []);
    const embeddingRows = Object.values(embedding.rows).flat();
    if (!intoImages) return { ...result, embeddingRows };
    patches!.pop();
    flowing = embedding.inputs['images']!;
    for (const segment of [...vision].reverse()) {
      const goesOn = isNeeded(segment);
      if (!goesOn && !this.#hasTrained(segment)) break;
      const border = patches!.pop();
      const { inputs: gradients } = await back(segment, border ? { x: border } : {}, flowing, goesOn ? ['x'] : []);
      if (!goesOn) break;
      flowing = gradients['x']!;
    }
    return { ...result, embeddingRows };
  }

  /** Takes and gives what the prefill graph does. */
  prefill(kind: VisionLayoutKind | null, rule: ScoreRule): Runnable {
    const scores = this.#text.scores(rule);
    return this.#runnable(async (feeds, _, run) => {
      const result: Record<string, HostTensor> = {};
      let x = await this.#embedded(feeds, kind && (await this.#images(feeds, kind, run)).at(-1)!, run);
      for (const [i, layer] of this.#text.prefill.entries()) {
        const out = await this.#segments.run(layer, { ...feeds, x }, run);
        x = out['y']!;
        result[`k${i}`] = out['k']!;
        result[`v${i}`] = out['v']!;
      }
      const rows = await this.#segments.run(this.#text.labelled, { ...feeds, x }, run);
      const out = await this.#segments.run(scores, { ...feeds, x: rows['y']! }, run);
      return { ...result, scores: out['scores']! };
    });
  }

  /** Takes and gives what the decode graph does; all outputs are written in place. */
  decode(rule: ScoreRule): Runnable {
    const scores = this.#text.scores(rule);
    return this.#runnable(async (feeds, into, run) => {
      let { y: x } = await this.#segments.run(this.#text.decodeEmbed, feeds, run);
      for (const [i, layer] of this.#text.decode.entries()) {
        const own = { x: x!, past_k: feeds[`past_k${i}`]!, past_v: feeds[`past_v${i}`]! };
        const cached = { k: into[`next_k${i}`]!, v: into[`next_v${i}`]! };
        const out = await this.#segments.run(layer, { ...feeds, ...own }, { ...run, into: cached });
        x = out['y'];
      }
      const rows = await this.#segments.run(this.#text.decodeNorm, { x: x! }, run);
      const last = { ...feeds, x: rows['y']! };
      await this.#segments.run(scores, last, { ...run, into: { scores: into['scores']! } });
      return into;
    });
  }

  /** The weights are fed here, so a caller has none to feed. */
  #runnable(
    compute: (feeds: HostFeeds, into: HostFeeds, run: StepOptions) => Promise<Readonly<Record<string, HostTensor>>>,
  ): Runnable {
    const run: Runnable['run'] = async (feeds, { into = {}, signal } = {}) => ({
      ...(await compute(onHost(feeds), onHost(into), { signal })),
    });
    const bind: Runnable['bind'] = (feeds, into = {}) => ({
      run: ({ signal } = {}) => run(feeds, { into, signal }),
      release: () => {},
    });
    return { feeds: [], run, bind };
  }

  async release(): Promise<void> {
    await this.#segments.release();
    for (const program of this.#losses.values()) await (await program).release();
    this.#losses.clear();
  }

  #hasTrained(segment: Segment): boolean {
    let has = this.#trained.get(segment);
    if (has === undefined) {
      has = this.#segments.hasTrained(segment);
      this.#trained.set(segment, has);
    }
    return has;
  }

  #visionSegments(kind: VisionLayoutKind): VisionSegments {
    let segments = this.#vision.get(kind);
    if (!segments) {
      segments = visionSegments(this.#config, kind);
      this.#vision.set(kind, segments);
    }
    return segments;
  }

  #embed(kind: VisionLayoutKind | null): Segment {
    return kind ? this.#text.embedWithImages : this.#text.embed;
  }

  /** Activations at the borders of the vision tower; the last are the embeddings of the images. */
  async #images(feeds: HostFeeds, kind: VisionLayoutKind, run: StepOptions): Promise<HostTensor[]> {
    const { all } = this.#visionSegments(kind);
    const keeps = all.some((segment) => this.#hasTrained(segment));
    return this.#through(all, feeds, null, keeps, run);
  }

  async #embedded(feeds: HostFeeds, images: HostTensor | null, run: StepOptions): Promise<HostTensor> {
    const segment = images ? this.#text.embedWithImages : this.#text.embed;
    const { y: x } = await this.#segments.run(segment, images ? { ...feeds, images } : feeds, run);
    return x!;
  }

  /** Hidden states before each layer, and after the last. */
  async #hidden(feeds: HostFeeds, images: HostTensor | null, run: StepOptions): Promise<HostTensor[]> {
    const first = await this.#embedded(feeds, images, run);
    return [first, ...(await this.#through(this.#text.layers, feeds, first, true, run))];
  }

  /** What the head reads of a forward pass that keeps nothing [N, C]. */
  async #labelledRows(feeds: HostFeeds, images: HostTensor | null, run: StepOptions): Promise<HostTensor> {
    const first = await this.#embedded(feeds, images, run);
    const [last] = await this.#through(this.#text.layers, feeds, first, false, run);
    const { y: x } = await this.#segments.run(this.#text.labelled, { ...feeds, x: last! }, run);
    return x!;
  }

  /** Output of each piece, or only that of the last. */
  async #through(
    segments: readonly Segment[],
    feeds: HostFeeds,
    first: HostTensor | null,
    keeps: boolean,
    run: StepOptions,
  ): Promise<HostTensor[]> {
    const borders: HostTensor[] = [];
    let x = first;
    for (const segment of segments) {
      const out: Record<string, HostTensor> = await this.#segments.run(segment, x ? { ...feeds, x } : feeds, run);
      x = out['y']!;
      if (!keeps) borders.pop();
      borders.push(x);
    }
    return borders;
  }

  async #headLogProbs(feeds: HostFeeds, x: HostTensor, run: StepOptions): Promise<Float32Array> {
    const logProbs = new Float32Array(x.shape[0]!);
    for (const part of this.#headParts(feeds, x)) {
      const into = {
        log_probs: {
          dtype: 'float32',
          shape: [part.count],
          data: logProbs.subarray(part.start, part.start + part.count),
        },
      } as const;
      await this.#segments.run(this.#text.head, part.feeds, { ...run, into });
    }
    return logProbs;
  }

  /** Gradient with respect to the rows that the head reads [N, C]. */
  async #headGradients(
    feeds: HostFeeds,
    x: HostTensor,
    gradient: Float32Array,
    gradientOf: (name: string) => HostTensor,
    run: StepOptions = {},
  ): Promise<HostTensor> {
    const all = { dtype: 'float32', shape: x.shape, data: new Float32Array(sizeOf(x.shape)) } as const;
    const width = x.shape[1]!;
    for (const { start, count, feeds: given } of this.#headParts(feeds, x)) {
      const into = {
        x: { dtype: 'float32', shape: [count, width], data: all.data.subarray(start * width, (start + count) * width) },
      } as const;
      const own = {
        log_probs: { dtype: 'float32', shape: [count], data: gradient.subarray(start, start + count) },
      } as const;
      await this.#segments.pullBack(this.#text.head, given, own, ['x'], gradientOf, { ...run, into });
    }
    return all;
  }

  /** Rows of the head in parts, so that their logits stay small; a head that is trained takes all at once. */
  *#headParts(feeds: HostFeeds, x: HostTensor): Iterable<{ start: number; count: number; feeds: HostFeeds }> {
    const [rows, width] = x.shape as [number, number];
    const most = this.#hasTrained(this.#text.head)
      ? rows
      : Math.max(1, Math.floor(LOGIT_BYTES / (4 * this.#config.text.vocabSize)));
    const pairs = feeds['pairs']!.data as BigInt64Array;
    for (let start = 0; start < rows; start += most) {
      const count = Math.min(most, rows - start);
      const own = pairs.slice(2 * start, 2 * (start + count));
      for (let i = 0; i < count; i++) own[2 * i] = BigInt(i);
      yield {
        start,
        count,
        feeds: {
          x: {
            dtype: 'float32',
            shape: [count, width],
            data: (x.data as Float32Array).subarray(start * width, (start + count) * width),
          },
          pairs: { dtype: 'int64', shape: [count, 2], data: own },
        },
      };
    }
  }

  async #loss(loss: LossBuilder, logProbs: Float32Array, inputs: HostFeeds, run: StepOptions) {
    const program = await this.#lossProgram(loss);
    const feeds = { ...inputs, log_probs: { dtype: 'float32', shape: [logProbs.length], data: logProbs } as const };
    const result = await program.run(feeds, { signal: run.signal });
    const terms: Record<string, HostTensor> = {};
    for (const [name, tensor] of Object.entries(result)) {
      if (name.startsWith('term:')) terms[name.slice('term:'.length)] = tensor;
    }
    return { loss: Number(result['loss']!.data[0]), terms, gradient: result['gradient']!.data as Float32Array };
  }

  #lossProgram(loss: LossBuilder): Promise<Program> {
    let program = this.#losses.get(loss.key);
    if (!program) {
      const graph = new Graph();
      const logProbs = graph.input('log_probs', 'float32', ['N']);
      const built = loss.build(graph, logProbs);
      const outputs: Record<string, Value> = {
        loss: built.loss,
        gradient: backward(built.loss, [logProbs]).dense.get(logProbs)!,
      };
      for (const [name, value] of Object.entries(built.terms ?? {})) outputs[`term:${name}`] = value;
      program = Program.compile(this.#source, graph, outputs, { key: `loss:${loss.key}` });
      this.#losses.set(loss.key, program);
    }
    return program;
  }
}

/** What is used of a program. */
export type Runnable = Pick<Program, 'feeds' | 'run' | 'bind'>;

function onHost(tensors: Feeds): HostFeeds {
  for (const [name, tensor] of Object.entries(tensors)) {
    if (!isHostTensor(tensor))
      throw new Fr1Error('DTYPE_MISMATCH', `${name} is on a device, layers run in host memory`);
  }
  return tensors as HostFeeds;
}

interface VisionSegments {
  /** Patches, blocks, merged units. */
  readonly all: readonly Segment[];
}

export function visionSegments({ vision }: Qwen25VLConfig, kind: VisionLayoutKind): VisionSegments {
  const isFull = (index: number) => vision.fullattBlockIndexes.includes(index);
  const border = (inputs: ReturnType<typeof visionInputs>) =>
    ['float32', [inputs.pixels.dim(0), vision.hiddenSize]] as const;
  const blocks = Array.from({ length: vision.depth }, (_, index): Segment => {
    const built = Array.from({ length: vision.depth }, (_, i) => i).findIndex((i) => isFull(i) === isFull(index));
    return {
      kind: `vision-${isFull(index) ? 'image' : 'window'}-${kind}`,
      layer: { built: `visual.blocks.${built}.`, fed: `visual.blocks.${index}.` },
      build(graph) {
        const inputs = visionInputs(graph, vision, kind);
        const x = graph.input('x', ...border(inputs));
        return { inputs: { x }, outputs: { y: visionBlock(graph, vision, built, x, inputs) } };
      },
    };
  });
  const patches: Segment = {
    kind: `vision-patches-${kind}`,
    build: (graph) => ({
      inputs: {},
      outputs: { y: patchEmbeddings(graph, vision, visionInputs(graph, vision, kind)) },
    }),
  };
  const merger: Segment = {
    kind: `vision-merger-${kind}`,
    build(graph) {
      const x = graph.input('x', ...border(visionInputs(graph, vision, kind)));
      return { inputs: { x }, outputs: { y: mergedUnits(graph, vision, x) } };
    },
  };
  return { all: [patches, ...blocks, merger] };
}

interface TextSegments {
  readonly embed: Segment;
  readonly embedWithImages: Segment;
  readonly layers: readonly Segment[];
  /** The rows that are asked for, after the last norm. */
  readonly labelled: Segment;
  readonly head: Segment;
  readonly logits: Segment;
  readonly prefill: readonly Segment[];
  /** Gives the same segment for equal rules. */
  scores(rule: ScoreRule): Segment;
  readonly decodeEmbed: Segment;
  readonly decode: readonly Segment[];
  readonly decodeNorm: Segment;
}

export function textSegments(config: Qwen25VLConfig, temperature = 1): TextSegments {
  const { text } = config;
  const { hiddenSize, headDim, numKeyValueHeads: groups } = text;
  const eachLayer = (kind: string, build: Segment['build'], keepsMemory = false): Segment[] =>
    Array.from({ length: text.numHiddenLayers }, (_, i) => ({
      kind,
      keepsMemory,
      layer: { built: 'model.layers.0.', fed: `model.layers.${i}.` },
      build,
    }));
  const scored = new Map<string, Segment>();
  const scores = (rule: ScoreRule): Segment => {
    const kind = `scores-${ruleKey(rule)}`;
    const segment = scored.get(kind) ?? {
      kind,
      keepsMemory: true,
      build(graph) {
        const x = graph.input('x', 'float32', ['N', hiddenSize]);
        return { inputs: { x }, outputs: { scores: scoresOf(graph, textHead(graph, config, x), rule) } };
      },
    };
    scored.set(kind, segment);
    return segment;
  };
  return {
    embed: {
      kind: 'embed',
      build: (graph) => ({ inputs: {}, outputs: { y: embedTokens(graph, config, textInputs(graph, text), null) } }),
    },
    embedWithImages: {
      kind: 'embed-images',
      build(graph) {
        const inputs = textInputs(graph, text);
        const images = graph.input('images', 'float32', ['M', hiddenSize]);
        const slots = {
          embeddings: images,
          index: graph.input('slot', 'int32', ['B*T']),
          uses: graph.input('slot_uses', 'int32', ['M', 'R']),
        };
        return { inputs: { images }, outputs: { y: embedTokens(graph, config, inputs, slots) } };
      },
    },
    layers: eachLayer('layer', (graph) => {
      const inputs = textInputs(graph, text);
      const x = graph.input('x', 'float32', ['B*T', hiddenSize]);
      const out = textLayer(graph, text, 0, x, inputs, (q, k, v) => attention(q, k, v, inputs.bias));
      return { inputs: { x }, outputs: { y: out } };
    }),
    labelled: {
      kind: 'labelled',
      build(graph) {
        textInputs(graph, text);
        const x = graph.input('x', 'float32', ['B*T', hiddenSize]);
        const rows = GatherRows(
          x,
          graph.input('label_index', 'int32', ['N']),
          graph.input('label_uses', 'int32', ['B*T', 1]),
        );
        return { inputs: { x }, outputs: { y: finalNorm(graph, text, rows) } };
      },
    },
    head: {
      kind: temperature === 1 ? 'head' : `head at temperature ${temperature}`,
      build(graph) {
        const x = graph.input('x', 'float32', ['N', hiddenSize]);
        const logits = textHead(graph, config, x);
        return { inputs: { x }, outputs: { log_probs: targetLogProbs(graph, logits, temperature) } };
      },
    },
    logits: {
      kind: 'logits',
      build(graph) {
        const x = graph.input('x', 'float32', ['N', hiddenSize]);
        return { inputs: { x }, outputs: { logits: textHead(graph, config, x) } };
      },
    },
    prefill: eachLayer('prefill', (graph) => {
      const inputs = textInputs(graph, text);
      const x = graph.input('x', 'float32', ['B*T', hiddenSize]);
      const outputs: Record<string, Value> = {};
      outputs['y'] = textLayer(graph, text, 0, x, inputs, (q, k, v) => {
        outputs['k'] = k;
        outputs['v'] = v;
        return attention(q, k, v, inputs.bias);
      });
      return { inputs: { x }, outputs };
    }),
    scores,
    decodeEmbed: {
      kind: 'decode-embed',
      build: (graph) => ({
        inputs: {},
        outputs: { y: tokenEmbeddings(graph, config, graph.input('ids', 'int32', ['S'])) },
      }),
    },
    decode: eachLayer(
      'decode',
      (graph) => {
        const x = graph.input('x', 'float32', ['S', hiddenSize]);
        const cos = graph.input('cos', 'float32', ['S', 1, headDim / 2]);
        const sin = graph.input('sin', 'float32', ['S', 1, headDim / 2]);
        const outputs: Record<string, Value> = {};
        const places = cachePlaces(graph, groups);
        outputs['y'] = textLayer(graph, text, 0, x, { cos, sin }, (q, k, v) => {
          const keys = withNewToken(cachedInput(graph, 'past_k', groups, headDim), k, places);
          const values = withNewToken(cachedInput(graph, 'past_v', groups, headDim), v, places);
          outputs['k'] = keys;
          outputs['v'] = values;
          return cachedAttention(q, keys, values, groups, places);
        });
        return { inputs: { x }, outputs };
      },
      true,
    ),
    decodeNorm: {
      kind: 'decode-norm',
      build(graph) {
        const x = graph.input('x', 'float32', ['S', hiddenSize]);
        return { inputs: { x }, outputs: { y: finalNorm(graph, text, x) } };
      },
    },
  };
}
