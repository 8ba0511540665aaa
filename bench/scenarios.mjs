/** What is timed: model sizes, the batch of a training step, the rollouts, and how much arithmetic they need. */

import { rawConfig } from '../dist/src/engine/models/qwen2_5_vl/raw-config.js';

export const IMAGE_TOKEN = 5;
const VISION_START = 3;
const VISION_END = 4;

/** One image of 112 x 112 pixels: 8 x 8 patches, 16 tokens. */
export const GRID = [1, 8, 8];
export const PATCHES = 64;
export const PATCH_WIDTH = 1176;

/** Sequences of a training step; a prompt of 50 tokens with one image, a response of 70 to 90. */
export const TRAIN_ROWS = 24;
export const PROMPT_TOKENS = 50;

/** Sequences of a training step on the CPU: with more of the largest model, three engines do not fit into 24 GiB. */
export function trainRowsOf(size) {
  return size === '200M' ? 8 : TRAIN_ROWS;
}

const ROLLOUT = { prompts: 32, samples: 1, newTokens: 80 };
const GROUP_ROLLOUT = { prompts: 24, samples: 10, newTokens: 80 };

/** What each size rolls out; groups take minutes with large models. */
export function rolloutsOf(size) {
  return size in DEVICE_SIZES && size !== '5M' ? [ROLLOUT] : [ROLLOUT, GROUP_ROLLOUT];
}

export const LEARNING_RATE = 1e-4;
export const MAX_GRAD_NORM = 1;

/** config.json by name of a size: what a GPU is timed with too. */
export const DEVICE_SIZES = {
  '5M': makeConfig({ width: 256, layers: 5, heads: 8, inner: 768, vision: 128, visionInner: 256 }),
  '40M': makeConfig({ width: 512, layers: 9, heads: 8, inner: 2048, vision: 256, visionInner: 512 }, 8192),
  '200M': makeConfig({ width: 1024, layers: 16, heads: 16, inner: 2816, vision: 256, visionInner: 512 }, 16384),
};

/** config.json by name of a size. */
export const SIZES = {
  'fr1-tiny': makeConfig({ width: 192, layers: 4, heads: 6, inner: 512, vision: 64, visionInner: 256 }),
  ...DEVICE_SIZES,
};

function makeConfig({ width, layers, heads, inner, vision, visionInner }, vocabularySize = 768) {
  return rawConfig(
    {
      hiddenSize: width,
      intermediateSize: inner,
      layers,
      heads,
      keyValueHeads: 2,
      visionHiddenSize: vision,
      visionIntermediateSize: visionInner,
      visionLayers: 4,
      visionHeads: 4,
      windowSize: 112,
      vocabularySize,
    },
    { bos: 0, eos: 1, pad: 0, visionStart: VISION_START, visionEnd: VISION_END, image: IMAGE_TOKEN, video: 6 },
  );
}

/**
 * Prompts, responses and pixels, the same for every engine.
 *
 * @param stream a RandomStream
 * @returns prompts and responses as token ids, pixels [prompts * 64, 1176]
 */
export function makeInputs(stream, count) {
  const word = () => 10 + stream.integer(700);
  const prompts = Array.from({ length: count }, () => [
    ...Array.from({ length: 8 }, word),
    VISION_START,
    ...new Array(16).fill(IMAGE_TOKEN),
    VISION_END,
    ...Array.from({ length: PROMPT_TOKENS - 26 }, word),
  ]);
  const responses = prompts.map((_, i) => Array.from({ length: 70 + ((7 * i) % 21) }, word));
  const pixels = Float32Array.from({ length: count * PATCHES * PATCH_WIDTH }, () => stream.normal());
  return { prompts, responses, pixels };
}

/**
 * Multiply-adds counted as two operations, matrix products only:
 *
 *     text     T 2 C (C + 2 K D + C + 3 F) + 4 T S C   per layer; S keys per query, all T of them when training
 *     head     2 C V                                   per position that is scored
 *     vision   P 2 W (4 W + 3 F) + 4 P P W             per block, and the patch embedding P 2 1176 W
 *     merger   P / 4 (2 (4 W)^2 + 2 (4 W) C)
 *
 * The backward pass is twice the forward pass, less the gradient of the pixels, which nobody asks for.
 */
export function forwardFlops(config, { tokens, keys, scored, images }) {
  const { hidden_size: C, intermediate_size: F, num_hidden_layers: layers, vocab_size: V } = config;
  const groups = (config.num_key_value_heads * C) / config.num_attention_heads;
  const text = layers * (2 * C * (2 * C + 2 * groups + 3 * F) + 4 * keys * C) * tokens;
  const { hidden_size: W, intermediate_size: Fv, depth } = config.vision_config;
  const pixels = images * PATCHES * 2 * PATCH_WIDTH * W;
  const blocks = images * PATCHES * depth * (2 * W * (4 * W + 3 * Fv) + 4 * PATCHES * W);
  const merger = images * (PATCHES / 4) * (2 * (4 * W) ** 2 + 2 * 4 * W * C);
  return { total: text + scored * 2 * C * V + pixels + blocks + merger, pixels };
}

/** Operations of one training step on whole sequences of the given lengths (prompt, response). */
export function trainFlops(config, lengths) {
  let flops = 0;
  for (const [prompt, response] of lengths) {
    // The last token of a sequence is a target only.
    const tokens = prompt + response - 1;
    const { total, pixels } = forwardFlops(config, { tokens, keys: tokens, scored: response, images: 1 });
    flops += 3 * total - pixels;
  }
  return flops;
}
