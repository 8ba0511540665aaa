/** What is timed: model sizes, the batch of a training step, the rollouts, and how much arithmetic they need. */

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
  '40M': large({ width: 512, layers: 9, heads: 8, inner: 2048, vision: 256, visionInner: 512 }, 8192),
  '200M': large({ width: 1024, layers: 16, heads: 16, inner: 2816, vision: 256, visionInner: 512 }, 16384),
};

/** config.json by name of a size. */
export const SIZES = {
  'fr1-tiny': makeConfig({ width: 192, layers: 4, heads: 6, inner: 512, vision: 64, visionInner: 256 }),
  ...DEVICE_SIZES,
};

/** Heads of 64 channels, and a larger vocabulary. */
function large(sizes, vocabulary) {
  return { ...makeConfig(sizes), vocab_size: vocabulary, rope_scaling: { type: 'mrope', mrope_section: [8, 12, 12] } };
}

function makeConfig({ width, layers, heads, inner, vision, visionInner }) {
  return {
    architectures: ['Qwen2_5_VLForConditionalGeneration'],
    model_type: 'qwen2_5_vl',
    hidden_size: width,
    intermediate_size: inner,
    num_hidden_layers: layers,
    num_attention_heads: heads,
    num_key_value_heads: 2,
    hidden_act: 'silu',
    max_position_embeddings: 2048,
    max_window_layers: layers,
    use_sliding_window: false,
    rms_norm_eps: 1e-6,
    rope_theta: 10000,
    rope_scaling: { type: 'mrope', mrope_section: [4, 6, 6] },
    vocab_size: 768,
    tie_word_embeddings: true,
    bos_token_id: 0,
    eos_token_id: 1,
    pad_token_id: 0,
    vision_start_token_id: VISION_START,
    vision_end_token_id: VISION_END,
    image_token_id: IMAGE_TOKEN,
    video_token_id: 6,
    vision_config: {
      model_type: 'qwen2_5_vl',
      depth: 4,
      hidden_size: vision,
      intermediate_size: visionInner,
      num_heads: 4,
      out_hidden_size: width,
      hidden_act: 'silu',
      in_channels: 3,
      in_chans: 3,
      patch_size: 14,
      spatial_patch_size: 14,
      temporal_patch_size: 2,
      spatial_merge_size: 2,
      tokens_per_second: 2,
      window_size: 112,
      fullatt_block_indexes: [1, 3],
    },
  };
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
