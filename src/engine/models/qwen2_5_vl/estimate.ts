/**
 * Peak memory of a process that trains or generates, worked out from the graphs before anything runs: weights, what the
 * optimiser keeps, activations, key/value cache. Host memory only.
 */
import { pullBack } from '../../autodiff/backward.ts';
import type { Value } from '../../autodiff/graph.ts';
import { peakLiveBytes } from '../../autodiff/live-bytes.ts';
import { WEIGHTED_NLL } from '../../loss/weighted-nll.ts';
import { ModelGraph } from '../../nn/model-graph.ts';
import type { ModelWeights } from '../../weights/model-weights.ts';
import { layoutKind } from './batch.ts';
import type { Qwen25VLConfig } from './config.ts';
import { cacheBytesPerToken } from './decoder.ts';
import type { Execution } from './execution.ts';
import { LOGIT_BYTES, textSegments, visionSegments } from './layered.ts';
import type { Segment } from './segments.ts';
import { lossGraph } from './training-model.ts';
import type { VisionLayoutKind } from './vision.ts';
import { type ImageGrid, type VisionLayout, visionLayout } from './vision-layout.ts';

/** The largest micro-batch of a training, or the largest prefill of a generation. */
export interface BatchSize {
  /** B */
  readonly rows: number;
  /** T, padding included. */
  readonly tokens: number;
  /** N: tokens of all rows that the loss asks for, or rows. */
  readonly targets: number;
  readonly images: readonly ImageGrid[];
}

export interface GenerationSize {
  readonly prompts: BatchSize;
  /** Sequences decoded together. */
  readonly sequences: number;
  readonly maxNewTokens: number;
}

export interface MemoryPlan {
  readonly config: Qwen25VLConfig;
  readonly execution: Execution;
  readonly weights: ModelWeights;
  readonly training?: BatchSize & {
    /** Whether an update sums several micro-batches. */ readonly accumulates: boolean;
  };
  readonly generation?: GenerationSize;
}

/** Bytes by what they are for; `total` is their sum. */
export interface MemoryEstimate {
  /** Node, onnxruntime, image library, tokenizer. */
  readonly process: number;
  readonly frozenWeights: number;
  /** Trained weights, their gradients and moments. */
  readonly trainedWeights: number;
  /** What a batch feeds, and the activations that are kept between pieces. */
  readonly batch: number;
  /** Values inside the graphs at their worst moment. */
  readonly activations: number;
  readonly cache: number;
  readonly total: number;
}

const PROCESS_BYTES = 330e6;
/** Memory that onnxruntime's arena holds beyond what is alive, measured on whole graphs. */
const ARENA_SHARE = 1.1;
const FLOAT = 4;

export function estimateMemory(plan: MemoryPlan): MemoryEstimate {
  const { weights, training, generation } = plan;
  const frozenWeights = weights.frozen.names.reduce((sum, name) => sum + weights.frozen.find(name)!.data.byteLength, 0);
  const copies = training ? (training.accumulates ? 5 : 4) : 1;
  const trainedWeights = copies * FLOAT * weights.trained.flat.length;
  const trainingPeak = training ? trainingBytes(plan, training) : { batch: 0, activations: 0 };
  const generationPeak = generation
    ? generationBytes(plan, generation)
    : { batch: 0, activations: 0, kept: 0, cache: 0 };
  const cache = generationPeak.cache;
  // Generation and training take turns; what decoding keeps stays.
  const batch = Math.max(trainingPeak.batch, generationPeak.batch);
  const activations =
    Math.max(trainingPeak.activations, generationPeak.activations) + (generationPeak as { kept: number }).kept;
  const parts = { process: PROCESS_BYTES, frozenWeights, trainedWeights, batch, activations, cache };
  return { ...parts, total: Object.values(parts).reduce((sum, bytes) => sum + bytes, 0) };
}

interface Peak {
  readonly batch: number;
  readonly activations: number;
}

function trainingBytes(plan: MemoryPlan, size: BatchSize): Peak {
  const { config, execution } = plan;
  const { kind, sizes } = sizesOf(config, size);
  const feeds = feedBytes(config, size);
  if (execution === 'whole') {
    const { graph, outputs } = lossGraph(config, kind, plan.weights, WEIGHTED_NLL);
    return { batch: feeds, activations: ARENA_SHARE * peakLiveBytes(graph, outputs, sizes) };
  }
  const text = textSegments(config);
  const vision = kind ? visionSegments(config, kind).all : [];
  const isTrained = (segment: Segment) => segmentGraph(plan, segment).trained.length > 0;
  const trainsVision = vision.some(isTrained);
  const below = [...vision, kind ? text.embedWithImages : text.embed, ...text.layers];
  const lowest = below.findIndex(isTrained);
  const borders =
    FLOAT *
    (size.rows * size.tokens * config.text.hiddenSize * (config.text.numHiddenLayers + 3) +
      (trainsVision ? patchesOf(size) * config.vision.hiddenSize * (config.vision.depth + 1) : 0));
  const headRows = isTrained(text.head)
    ? size.targets
    : Math.min(size.targets, Math.max(1, Math.floor(LOGIT_BYTES / (FLOAT * config.text.vocabSize))));
  const piece = (segment: Segment, back: boolean, own = sizes) => segmentBytes(plan, segment, back, own);
  const once = distinct([...vision, kind ? text.embedWithImages : text.embed, ...text.layers, text.labelled]);
  const activations = Math.max(
    ...once.map((segment) =>
      piece(segment, lowest >= 0 && below.indexOf(segment) >= Math.max(lowest, trainsVision ? 0 : vision.length)),
    ),
    piece(text.head, true, new Map([...sizes, ['N', headRows]])),
  );
  return { batch: feeds + borders, activations };
}

function generationBytes(plan: MemoryPlan, { prompts, sequences, maxNewTokens }: GenerationSize) {
  const { config, execution } = plan;
  const { kind, sizes } = sizesOf(config, prompts);
  const length = prompts.tokens + maxNewTokens;
  const perToken = cacheBytesPerToken(config);
  const cache = sequences * length * perToken + prompts.rows * prompts.tokens * perToken;
  const step = new Map([...sizes, ['S', sequences], ['P', length], ['N', sequences]]);
  const text = textSegments(config);
  const rule = { kind: 'probabilities', hasPenalty: false, hasBans: false, hasTemperature: false } as const;
  const pieces = (segments: readonly Segment[], own: ReadonlyMap<string, number>) =>
    Math.max(0, ...distinct(segments).map((segment) => segmentBytes(plan, segment, false, own)));
  const reading = pieces([...(kind ? visionSegments(config, kind).all : []), ...text.prefill], sizes);
  const feeds = feedBytes(config, prompts) + 2 * FLOAT * sequences * config.text.vocabSize;
  const decoding = pieces(text.decode, step) + pieces([text.scores(rule)], step);
  if (execution === 'layered') return { batch: feeds, activations: reading, kept: decoding, cache };
  // The whole graphs keep the memory of both.
  return { batch: feeds, activations: ARENA_SHARE * reading, kept: ARENA_SHARE * decoding, cache };
}

/** One of each kind: layers of a kind take the same memory. */
function distinct(segments: readonly Segment[]): Segment[] {
  return [...new Map(segments.map((segment) => [segment.kind, segment])).values()];
}

function segmentGraph({ weights }: MemoryPlan, segment: Segment) {
  const fed = (name: string) =>
    segment.layer && name.startsWith(segment.layer.built)
      ? segment.layer.fed + name.slice(segment.layer.built.length)
      : name;
  const graph = new ModelGraph({
    dtypeOf: (name) => weights.dtypeOf(fed(name)),
    adapterOf: (module) => weights.adapterOf(fed(module)),
  });
  const values = segment.build(graph);
  const trained = graph.inputs.filter(
    ({ source, name }) => source.kind === 'parameter' && weights.trained.find(fed(name)) !== undefined,
  );
  return { graph, values, trained };
}

function segmentBytes(plan: MemoryPlan, segment: Segment, back: boolean, sizes: ReadonlyMap<string, number>): number {
  const { graph, values, trained } = segmentGraph(plan, segment);
  if (!back) return peakLiveBytes(graph, values.outputs, sizes);
  const seeds = new Map(
    Object.entries(values.outputs).map(
      ([name, value]) => [value, graph.input(`d:${name}`, 'float32', value.shape)] as const,
    ),
  );
  const { dense } = pullBack(seeds, [...Object.values(values.inputs), ...trained]);
  const outputs: Record<string, Value> = {};
  for (const [value, gradient] of dense) outputs[`d:${value.name}`] = gradient;
  return peakLiveBytes(graph, outputs, sizes);
}

function patchesOf({ images }: BatchSize): number {
  return images.reduce((sum, [t, h, w]) => sum + t * h * w, 0);
}

/** Feeds of a batch and of the next one, which is built meanwhile, with the images behind them. */
function feedBytes(config: Qwen25VLConfig, size: BatchSize): number {
  const { inChannels, temporalPatchSize, patchSize } = config.vision;
  const pixels = FLOAT * patchesOf(size) * inChannels * temporalPatchSize * patchSize ** 2;
  return 2 * (FLOAT * size.rows * size.tokens ** 2 + pixels) + pixels;
}

/** The named sizes of all graphs. */
function sizesOf(config: Qwen25VLConfig, size: BatchSize) {
  const sizes = new Map([
    ['B', size.rows],
    ['T', size.tokens],
    ['N', size.targets],
    ['R', 1],
  ]);
  if (size.images.length === 0) return { kind: null, sizes };
  const layout = visionLayout(size.images, config);
  const kind = layoutKind(layout);
  const unit = config.vision.spatialMergeSize ** 2;
  sizes.set('M', layout.patches / unit);
  const windows = layout.cuWindowSeqlens.length - 1;
  const images = layout.cuImageSeqlens.length - 1;
  sizes.set('I', images);
  sizes.set('W', kind === 'uniform' ? windows / images : windows);
  sizes.set('U', longest(layout.cuWindowSeqlens) / unit);
  sizes.set('S', longest(layout.cuWindowSeqlens));
  sizes.set('L', longest(layout.cuImageSeqlens));
  return { kind, sizes } satisfies { kind: VisionLayoutKind; sizes: Map<string, number> };
}

function longest(starts: VisionLayout['cuWindowSeqlens']): number {
  let most = 0;
  for (let i = 1; i < starts.length; i++) most = Math.max(most, starts[i]! - starts[i - 1]!);
  return most;
}
