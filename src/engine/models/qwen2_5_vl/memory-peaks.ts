/** Memory that training, log-probabilities and generation take at their worst moments, worked out from their graphs. */
import { peakLiveBytes, valueBytes } from '../../autodiff/live-bytes.ts';
import type { ScoreRule } from '../../generate/sampler.ts';
import { WEIGHTED_NLL } from '../../loss/weighted-nll.ts';
import { type BatchSize, feedBytes, patchesOf, sizesOf } from './batch-size.ts';
import type { Qwen25VLConfig } from './config.ts';
import { cacheBytesPerToken, decodeGraph, prefillGraph, sharedDecodeGraph } from './decoder.ts';
import type { Execution } from './execution.ts';
import {
  fitsPrefill,
  type GenerationLimits,
  generationLimits,
  mostSequences,
  sharesPrompts,
} from './generation-limits.ts';
import { LOGIT_BYTES, textSegments, visionSegments } from './layered.ts';
import type { WeightFacts } from './planned-weights.ts';
import { distinct, hasTrained, segmentBytes } from './segment-memory.ts';
import type { Segment } from './segments.ts';
import { logProbGraph, lossGraph } from './training-model.ts';
import type { ImageGrid } from './vision-layout.ts';

export interface ModelFacts {
  readonly config: Qwen25VLConfig;
  readonly execution: Execution;
  readonly weights: WeightFacts;
}

/** What is generated at a time, at most. */
export interface GenerationSize {
  /** The longest prompt. */
  readonly prompt: { readonly tokens: number; readonly images: readonly ImageGrid[] };
  /** Prompts that are asked for in one call. */
  readonly prompts: number;
  readonly samplesPerPrompt: number;
  readonly maxNewTokens: number;
  readonly limits?: Partial<GenerationLimits>;
}

/** Bytes. */
export interface Peak {
  /** Feeds, outputs, and what is kept between pieces: arrays of the host. */
  readonly arrays: number;
  /** Inside graphs, given back after the run. */
  readonly passing: number;
  /** Inside graphs, kept by their sessions for the next run. */
  readonly kept: number;
}

/** Memory that onnxruntime's arena holds beyond what is alive, measured on whole graphs. */
export const ARENA_SHARE = 1.1;
/** The same with the masks of dropout, whose kernels leave gaps. */
const ARENA_SHARE_WITH_DROPOUT = 1.25;
const FLOAT = 4;

/** Arrays of the calls before that V8 lets lie: it begins to collect after 64 MiB, and is done some allocations later. */
const UNCOLLECTED_BYTES = 96 * 2 ** 20;

/** The most that is done with logits; a repetition penalty adds nothing that lasts. */
const RULE: ScoreRule = { kind: 'probabilities', hasPenalty: false, hasBans: true, hasTemperature: true };

type Sizes = ReadonlyMap<string, number>;

export function trainingPeak(model: ModelFacts, size: BatchSize): Peak {
  const { config, execution, weights } = model;
  const { kind, sizes } = sizesOf(config, size);
  // A batch is built while the one before it is computed.
  const feeds = 2 * feedBytes(config, size);
  if (execution === 'whole') {
    const { graph, outputs } = lossGraph(config, kind, weights, WEIGHTED_NLL, { hasDropout: true });
    const rows = Object.entries(outputs).filter(([name]) => name.startsWith('rows:'));
    const rowBytes = rows.reduce((sum, [, value]) => sum + valueBytes(value, sizes), 0);
    const hasMasks = graph.nodes.some(({ operator }) => operator.type === 'DropoutMask');
    const share = hasMasks ? ARENA_SHARE_WITH_DROPOUT : ARENA_SHARE;
    return { arrays: feeds + rowBytes, passing: 0, kept: share * peakLiveBytes(graph, outputs, sizes) };
  }
  const { vision, embed, text } = segmentsOf(config, kind);
  const below = [...vision, embed, ...text.layers];
  const lowest = below.findIndex((segment) => hasTrained(weights, segment));
  const trainsVision = vision.some((segment) => hasTrained(weights, segment));
  const deepest = Math.max(lowest, trainsVision ? 0 : vision.length);
  const pieces = distinct([...below, text.labelled]).map((segment) => {
    const isPassedBack = lowest >= 0 && (segment === text.labelled || below.indexOf(segment) >= deepest);
    return segmentBytes(weights, segment, isPassedBack ? 'back' : 'forward', sizes);
  });
  const head = segmentBytes(weights, text.head, 'back', headSizes(model, size, sizes));
  const hidden = size.rows * size.tokens * config.text.hiddenSize * (config.text.numHiddenLayers + 3);
  const patches = trainsVision ? patchesOf(size.images) * config.vision.hiddenSize * (config.vision.depth + 1) : 0;
  // Those of the step before are not collected at once.
  const borders = 2 * FLOAT * (hidden + patches);
  return { arrays: feeds + borders, passing: Math.max(head, ...pieces), kept: 0 };
}

export function logProbPeak(model: ModelFacts, size: BatchSize): Peak {
  const { config, execution, weights } = model;
  const { kind, sizes } = sizesOf(config, size);
  const feeds = feedBytes(config, size);
  if (execution === 'whole') {
    const { graph, logProbs } = logProbGraph(config, kind, weights);
    return { arrays: feeds, passing: 0, kept: ARENA_SHARE * peakLiveBytes(graph, { logProbs }, sizes) };
  }
  const { vision, embed, text } = segmentsOf(config, kind);
  const pieces = forwardBytes(weights, [...vision, embed, ...text.layers, text.labelled], sizes);
  const head = segmentBytes(weights, text.head, 'forward', headSizes(model, size, sizes));
  const hidden = FLOAT * size.rows * size.tokens * config.text.hiddenSize * (config.text.numHiddenLayers + 1);
  return { arrays: feeds + hidden, passing: Math.max(head, pieces), kept: 0 };
}

/** @returns the peak without the key/value cache, and the cache */
export function generationPeak(model: ModelFacts, size: GenerationSize): Peak & { readonly cache: number } {
  const { config, execution, weights } = model;
  const { prompt, samplesPerPrompt: samples, maxNewTokens } = size;
  const limits = generationLimits(size.limits);
  const areShared = execution === 'whole' && sharesPrompts(limits, prompt.tokens, samples);
  const most = mostSequences(config, limits, prompt.tokens, { maxNewTokens, samples, areShared });
  const sequences = samples > most ? most : Math.min(size.prompts * samples, most - (most % samples));
  const prompts = Math.ceil(sequences / samples);
  const prefill = prefillSize(size, prompts, limits);
  const { kind, sizes } = sizesOf(config, prefill);

  const perToken = cacheBytesPerToken(config);
  const cachedTokens = areShared
    ? prompts * (prompt.tokens - 1) + sequences * maxNewTokens
    : sequences * (prompt.tokens + maxNewTokens - 1);
  const prefilled = prefill.rows * prompt.tokens * perToken;
  const scores = FLOAT * (sequences + prefill.rows) * config.text.vocabSize;
  const cache = cachedTokens * perToken;
  const fed = feedBytes(config, prefill) + prefilled + scores;
  const arrays = fed + Math.min(UNCOLLECTED_BYTES, fed + cache);

  const step = new Map([
    ...sizes,
    ['S', sequences],
    ['N', sequences],
    ['C', areShared ? maxNewTokens : prompt.tokens + maxNewTokens - 1],
    ['G', prompts],
    ['W', samples],
    ['R', prompt.tokens - 1],
  ]);
  if (execution === 'whole') {
    const reading = prefillGraph(config, kind, RULE, weights);
    const decoding = (areShared ? sharedDecodeGraph : decodeGraph)(config, RULE, { layout: weights });
    const inside =
      peakLiveBytes(reading.graph, reading.outputs, sizes) + peakLiveBytes(decoding.graph, decoding.outputs, step);
    return { arrays, passing: 0, kept: ARENA_SHARE * inside, cache };
  }
  const { vision, embed, text } = segmentsOf(config, kind);
  return {
    arrays,
    passing: forwardBytes(weights, [...vision, embed, ...text.prefill, text.labelled], sizes),
    kept: forwardBytes(weights, text.decode, step) + forwardBytes(weights, [text.scores(RULE)], step),
    cache,
  };
}

/** The prompts that are read in one run. */
function prefillSize({ prompt }: GenerationSize, prompts: number, limits: GenerationLimits): BatchSize {
  const { tokens, images } = prompt;
  const patches = patchesOf(images);
  let rows = 1;
  while (rows < prompts && fitsPrefill(limits, { longest: tokens, rows: rows + 1, patches: (rows + 1) * patches }))
    rows++;
  return { rows, tokens, targets: rows, images: Array.from({ length: rows }, () => images).flat() };
}

function segmentsOf(config: Qwen25VLConfig, kind: ReturnType<typeof sizesOf>['kind']) {
  const text = textSegments(config);
  return {
    text,
    vision: kind ? visionSegments(config, kind).all : [],
    embed: kind ? text.embedWithImages : text.embed,
  };
}

/** The largest of pieces that run one after the other. */
function forwardBytes(weights: WeightFacts, segments: readonly Segment[], sizes: Sizes): number {
  return Math.max(...distinct(segments).map((segment) => segmentBytes(weights, segment, 'forward', sizes)));
}

/** A head that is trained takes all rows at once, another a part. */
function headSizes({ config, weights }: ModelFacts, { targets }: BatchSize, sizes: Sizes): Sizes {
  const part = Math.max(1, Math.floor(LOGIT_BYTES / (FLOAT * config.text.vocabSize)));
  const rows = hasTrained(weights, textSegments(config).head) ? targets : Math.min(targets, part);
  return new Map([...sizes, ['N', rows]]);
}
