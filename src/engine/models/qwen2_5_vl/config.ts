/**
 * config.json of a Qwen2.5-VL checkpoint as a typed value. Both layouts are read: language-model settings at the top
 * level (early releases) and under `text_config`. An absent key has the value that transformers gives it.
 */
import { Fr1Error } from '../../../errors/fr1-error.ts';

export interface Qwen25VLTextConfig {
  readonly vocabSize: number;
  /** C */
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly numHiddenLayers: number;
  /** H */
  readonly numAttentionHeads: number;
  /** K; H is a multiple of it. */
  readonly numKeyValueHeads: number;
  /** D = C / H */
  readonly headDim: number;
  readonly rmsNormEps: number;
  readonly ropeTheta: number;
  /** Rotary frequencies that turn with the temporal, height and width position; they add up to D / 2. */
  readonly mropeSection: readonly [number, number, number];
  readonly maxPositionEmbeddings: number;
  /** Token whose lookups give the embedding table no gradient: `padding_idx` of torch. */
  readonly paddingId: number | undefined;
}

export interface Qwen25VLVisionConfig {
  readonly depth: number;
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly numHeads: number;
  /** hiddenSize / numHeads, a multiple of 4: height and width turn half of the frequencies each. */
  readonly headDim: number;
  readonly inChannels: number;
  /** Pixels on a side. */
  readonly patchSize: number;
  /** Frames in a patch; a still image is repeated. */
  readonly temporalPatchSize: number;
  /** Patches on a side of the square that becomes one token. */
  readonly spatialMergeSize: number;
  /** Pixels on a side of an attention window; what is left of whole merged units does not count. */
  readonly windowSize: number;
  /** Blocks that attend over the whole image instead of a window; those beyond the depth say nothing. */
  readonly fullattBlockIndexes: readonly number[];
  /** Equals the text model's hiddenSize. */
  readonly outHiddenSize: number;
  readonly ropeTheta: number;
  readonly rmsNormEps: number;
}

export interface Qwen25VLConfig {
  readonly text: Qwen25VLTextConfig;
  readonly vision: Qwen25VLVisionConfig;
  /** The output head is the transposed token embedding. */
  readonly tieWordEmbeddings: boolean;
  readonly imageTokenId: number;
  readonly videoTokenId: number;
  readonly visionStartTokenId: number;
  readonly visionEndTokenId: number;
  readonly bosTokenId: number | undefined;
  /** Tokens that end a text; generation_config.json may name others. */
  readonly eosTokenIds: readonly number[];
  readonly padTokenId: number | undefined;
}

/** More than any model has; a slip in a config must not turn into a list of a billion weights. */
const MAX_LAYERS = 1024;

/**
 * Reads a parsed config.json; every problem is reported at once.
 *
 * @param file named in errors
 * @throws MODEL_CONFIG_INVALID for another model type, an unsupported variant or impossible sizes
 */
export function parseConfig(json: unknown, file = 'config.json'): Qwen25VLConfig {
  if (!isRecord(json)) throw new Fr1Error('MODEL_CONFIG_INVALID', `${file} is not a JSON object`);
  if (json['model_type'] !== 'qwen2_5_vl') {
    throw new Fr1Error(
      'MODEL_CONFIG_INVALID',
      `${file} describes a model of type ${JSON.stringify(json['model_type'] ?? null)}, not "qwen2_5_vl"`,
      { hint: 'fr1 trains Qwen2.5-VL checkpoints' },
    );
  }
  const problems: string[] = [];
  const top = reader(json, '', problems);
  const text = isRecord(json['text_config']) ? reader(json['text_config'], 'text_config.', problems) : top;
  const visionRecord = json['vision_config'] ?? {};
  if (!isRecord(visionRecord)) problems.push('vision_config is not an object');
  const vision = reader(isRecord(visionRecord) ? visionRecord : {}, 'vision_config.', problems);

  const config: Qwen25VLConfig = {
    text: readText(text, problems),
    vision: readVision(vision, problems),
    tieWordEmbeddings: top.flag('tie_word_embeddings', false) || text.flag('tie_word_embeddings', false),
    imageTokenId: top.tokenId('image_token_id') ?? 151655,
    videoTokenId: top.tokenId('video_token_id') ?? 151656,
    visionStartTokenId: top.tokenId('vision_start_token_id') ?? 151652,
    visionEndTokenId: top.tokenId('vision_end_token_id') ?? 151653,
    bosTokenId: text.tokenId('bos_token_id') ?? top.tokenId('bos_token_id'),
    eosTokenIds: text.tokenIds('eos_token_id') ?? top.tokenIds('eos_token_id') ?? [],
    padTokenId: text.tokenId('pad_token_id') ?? top.tokenId('pad_token_id'),
  };
  if (problems.length === 0) checkSizes(config, problems);
  if (problems.length > 0) {
    throw new Fr1Error('MODEL_CONFIG_INVALID', `${file} cannot be used:\n${problems.map((p) => `  ${p}`).join('\n')}`);
  }
  return config;
}

function readText(text: Reader, problems: string[]): Qwen25VLTextConfig {
  const hiddenSize = text.count('hidden_size', 8192);
  const numAttentionHeads = text.count('num_attention_heads', 64);
  text.expect('hidden_act', 'silu');
  if (slides(text)) problems.push(`${text.prefix}use_sliding_window is not supported`);
  if (text.has('head_dim') && text.count('head_dim', 0) * numAttentionHeads !== hiddenSize) {
    problems.push(`${text.prefix}head_dim is not hidden_size / num_attention_heads`);
  }
  const rope = text.record('rope_parameters') ?? text.record('rope_scaling') ?? reader({}, '', problems);
  const ropeType = rope.value('rope_type') ?? rope.value('type') ?? 'default';
  if (ropeType !== 'default' && ropeType !== 'mrope') {
    problems.push(`${rope.prefix}rope_type ${JSON.stringify(ropeType)} is not supported`);
  }
  return {
    vocabSize: text.count('vocab_size', 152064),
    hiddenSize,
    intermediateSize: text.count('intermediate_size', 29568),
    numHiddenLayers: text.count('num_hidden_layers', 80),
    numAttentionHeads,
    numKeyValueHeads: text.count('num_key_value_heads', text.isNull('num_key_value_heads') ? numAttentionHeads : 8),
    headDim: hiddenSize / numAttentionHeads,
    rmsNormEps: text.positive('rms_norm_eps', 1e-5),
    ropeTheta: rope.has('rope_theta') ? rope.positive('rope_theta', 1e6) : text.positive('rope_theta', 1e6),
    mropeSection: rope.section('mrope_section', [16, 24, 24]),
    maxPositionEmbeddings: text.count('max_position_embeddings', 32768),
    paddingId: text.tokenId('pad_token_id'),
  };
}

/** Whether a layer of the language model attends over a window; without `layer_types` those from `max_window_layers` on do. */
function slides(text: Reader): boolean {
  if (!text.flag('use_sliding_window', false) || text.isNull('sliding_window')) return false;
  const types = text.value('layer_types');
  if (Array.isArray(types)) return types.includes('sliding_attention');
  return text.count('num_hidden_layers', 80) > text.index('max_window_layers', 80);
}

function readVision(vision: Reader, problems: string[]): Qwen25VLVisionConfig {
  const hiddenSize = vision.count('hidden_size', 3584);
  const numHeads = vision.count('num_heads', 16);
  vision.expect('hidden_act', 'silu');
  const rope = vision.record('rope_parameters') ?? reader({}, '', problems);
  return {
    depth: vision.count('depth', 32),
    hiddenSize,
    intermediateSize: vision.count('intermediate_size', 3420),
    numHeads,
    headDim: hiddenSize / numHeads,
    inChannels: vision.has('in_channels') ? vision.count('in_channels', 3) : vision.count('in_chans', 3),
    patchSize: vision.count('patch_size', 14),
    temporalPatchSize: vision.count('temporal_patch_size', 2),
    spatialMergeSize: vision.count('spatial_merge_size', 2),
    windowSize: vision.count('window_size', 112),
    fullattBlockIndexes: vision.indexes('fullatt_block_indexes', [7, 15, 23, 31]),
    outHiddenSize: vision.count('out_hidden_size', 3584),
    ropeTheta: rope.positive('rope_theta', 10000),
    rmsNormEps: 1e-6,
  };
}

function checkSizes({ text, vision, ...ids }: Qwen25VLConfig, problems: string[]): void {
  const must = (holds: boolean, problem: string) => {
    if (!holds) problems.push(problem);
  };
  must(text.numHiddenLayers <= MAX_LAYERS, `num_hidden_layers ${text.numHiddenLayers} is above ${MAX_LAYERS}`);
  must(vision.depth <= MAX_LAYERS, `vision_config.depth ${vision.depth} is above ${MAX_LAYERS}`);
  must(
    Number.isInteger(text.headDim),
    `hidden_size ${text.hiddenSize} is no multiple of num_attention_heads ${text.numAttentionHeads}`,
  );
  must(
    text.numAttentionHeads % text.numKeyValueHeads === 0,
    `num_attention_heads ${text.numAttentionHeads} is no multiple of num_key_value_heads ${text.numKeyValueHeads}`,
  );
  const [t, h, w] = text.mropeSection;
  must(
    2 * (t + h + w) === text.headDim,
    `mrope_section [${t}, ${h}, ${w}] does not add up to half of the head width ${text.headDim}`,
  );
  must(
    vision.headDim % 4 === 0,
    `vision_config: hidden_size ${vision.hiddenSize} / num_heads ${vision.numHeads} is no multiple of 4`,
  );
  must(
    vision.outHiddenSize === text.hiddenSize,
    `vision_config.out_hidden_size ${vision.outHiddenSize} is not the hidden_size ${text.hiddenSize} of the text model`,
  );
  must(
    vision.windowSize >= vision.patchSize * vision.spatialMergeSize,
    `vision_config.window_size ${vision.windowSize} is below patch_size x spatial_merge_size = ${vision.patchSize * vision.spatialMergeSize}`,
  );
  for (const [name, id] of [
    ['image_token_id', ids.imageTokenId],
    ['video_token_id', ids.videoTokenId],
    ['vision_start_token_id', ids.visionStartTokenId],
    ['vision_end_token_id', ids.visionEndTokenId],
  ] as const) {
    must(id < text.vocabSize, `${name} ${id} is outside the vocabulary of ${text.vocabSize}`);
  }
}

/** Typed access to one JSON object; problems are collected, and a default stands in for a wrong value. */
interface Reader {
  readonly prefix: string;
  has(key: string): boolean;
  isNull(key: string): boolean;
  value(key: string): unknown;
  record(key: string): Reader | undefined;
  /** A whole number of at least 1. */
  count(key: string, absent: number): number;
  /** A whole number of at least 0. */
  index(key: string, absent: number): number;
  positive(key: string, absent: number): number;
  flag(key: string, absent: boolean): boolean;
  tokenId(key: string): number | undefined;
  tokenIds(key: string): number[] | undefined;
  indexes(key: string, absent: readonly number[]): readonly number[];
  section(key: string, absent: [number, number, number]): [number, number, number];
  expect(key: string, only: string): void;
}

function reader(record: Record<string, unknown>, prefix: string, problems: string[]): Reader {
  const value = (key: string) => (Object.hasOwn(record, key) ? (record[key] ?? undefined) : undefined);
  function read<T>(key: string, absent: T, holds: (found: unknown) => boolean, expected: string): T {
    const found = value(key);
    if (found === undefined) return absent;
    if (holds(found)) return found as T;
    const problem = `${prefix}${key} is ${JSON.stringify(found)}, expected ${expected}`;
    if (!problems.includes(problem)) problems.push(problem);
    return absent;
  }
  const isIndex = (found: unknown) => Number.isSafeInteger(found) && (found as number) >= 0;
  const isIndexes = (found: unknown) => Array.isArray(found) && found.every(isIndex);
  return {
    prefix,
    value,
    has: (key) => value(key) !== undefined,
    isNull: (key) => record[key] === null,
    record: (key) => {
      const found = read<unknown>(key, undefined, isRecord, 'an object');
      return isRecord(found) ? reader(found, `${prefix}${key}.`, problems) : undefined;
    },
    count: (key, absent) => read(key, absent, (found) => isIndex(found) && found !== 0, 'a whole number above 0'),
    index: (key, absent) => read(key, absent, isIndex, 'a whole number'),
    positive: (key, absent) =>
      read(key, absent, (found) => Number.isFinite(found) && (found as number) > 0, 'a number above 0'),
    flag: (key, absent) => read(key, absent, (found) => typeof found === 'boolean', 'true or false'),
    tokenId: (key) => read<number | undefined>(key, undefined, isIndex, 'a token id'),
    tokenIds: (key) => {
      const found = read<number | number[] | undefined>(
        key,
        undefined,
        (ids) => isIndex(ids) || isIndexes(ids),
        'a token id or a list of them',
      );
      return typeof found === 'number' ? [found] : found;
    },
    indexes: (key, absent) => read(key, absent, isIndexes, 'a list of whole numbers'),
    section: (key, absent) =>
      read(key, absent, (found) => isIndexes(found) && (found as unknown[]).length === 3, 'three whole numbers'),
    expect: (key, only) => {
      read<unknown>(key, only, (found) => found === only, JSON.stringify(only));
    },
  };
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
