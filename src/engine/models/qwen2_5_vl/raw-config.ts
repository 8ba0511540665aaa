/** config.json of a new Qwen2.5-VL model, as transformers reads it too. */

export interface ModelSizes {
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly layers: number;
  readonly heads: number;
  readonly keyValueHeads: number;
  readonly visionHiddenSize: number;
  readonly visionIntermediateSize: number;
  readonly visionLayers: number;
  readonly visionHeads: number;
  /** Side of the vision tower's attention windows in pixels; every second block sees whole images. */
  readonly windowSize: number;
  readonly vocabularySize: number;
}

export interface SpecialTokens {
  readonly bos: number;
  readonly eos: number;
  readonly pad: number;
  readonly visionStart: number;
  readonly visionEnd: number;
  readonly image: number;
  readonly video: number;
}

/** Of the pairs of a head's channels 3/8 each turn with the row and the column of a patch, the others with time. */
export function rawConfig(sizes: ModelSizes, tokens: SpecialTokens): Record<string, unknown> {
  const pairs = sizes.hiddenSize / sizes.heads / 2;
  const spatial = Math.round(pairs * 0.375);
  return {
    architectures: ['Qwen2_5_VLForConditionalGeneration'],
    model_type: 'qwen2_5_vl',
    hidden_size: sizes.hiddenSize,
    intermediate_size: sizes.intermediateSize,
    num_hidden_layers: sizes.layers,
    num_attention_heads: sizes.heads,
    num_key_value_heads: sizes.keyValueHeads,
    hidden_act: 'silu',
    max_position_embeddings: 2048,
    max_window_layers: sizes.layers,
    use_sliding_window: false,
    rms_norm_eps: 1e-6,
    rope_theta: 10000,
    rope_scaling: { type: 'mrope', mrope_section: [pairs - 2 * spatial, spatial, spatial] },
    vocab_size: sizes.vocabularySize,
    tie_word_embeddings: true,
    attention_dropout: 0,
    initializer_range: 0.02,
    use_cache: true,
    bos_token_id: tokens.bos,
    eos_token_id: tokens.eos,
    pad_token_id: tokens.pad,
    vision_start_token_id: tokens.visionStart,
    vision_end_token_id: tokens.visionEnd,
    image_token_id: tokens.image,
    video_token_id: tokens.video,
    vision_config: {
      model_type: 'qwen2_5_vl',
      depth: sizes.visionLayers,
      hidden_size: sizes.visionHiddenSize,
      intermediate_size: sizes.visionIntermediateSize,
      num_heads: sizes.visionHeads,
      out_hidden_size: sizes.hiddenSize,
      hidden_act: 'silu',
      in_channels: 3,
      in_chans: 3,
      patch_size: 14,
      spatial_patch_size: 14,
      temporal_patch_size: 2,
      spatial_merge_size: 2,
      tokens_per_second: 2,
      window_size: sizes.windowSize,
      fullatt_block_indexes: Array.from({ length: sizes.visionLayers }, (_, i) => i).filter((i) => i % 2 === 1),
    },
  };
}
