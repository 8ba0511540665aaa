import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { openSafetensors } from '../../weights/safetensors.ts';
import { parseConfig } from './config.ts';
import { canonicalName, parameterSpecs } from './parameters.ts';

const fixture = (path: string) =>
  fileURLToPath(new URL(`../../../../test/fixtures/qwen2_5_vl/${path}`, import.meta.url));

type Json = Record<string, unknown>;
const tied = () =>
  JSON.parse(readFileSync(fixture('tiny_tied/config.json'), 'utf8')) as Json & {
    text_config: Json;
    vision_config: Json;
  };

/** The published flat layout, with the sizes of the 3B model. */
const FLAT = {
  model_type: 'qwen2_5_vl',
  bos_token_id: 151643,
  eos_token_id: 151645,
  vision_start_token_id: 151652,
  vision_end_token_id: 151653,
  image_token_id: 151655,
  video_token_id: 151656,
  hidden_act: 'silu',
  hidden_size: 2048,
  intermediate_size: 11008,
  max_position_embeddings: 128000,
  num_attention_heads: 16,
  num_hidden_layers: 36,
  num_key_value_heads: 2,
  rms_norm_eps: 1e-6,
  rope_theta: 1000000,
  sliding_window: 32768,
  use_sliding_window: false,
  tie_word_embeddings: true,
  torch_dtype: 'bfloat16',
  vision_config: {
    depth: 32,
    hidden_act: 'silu',
    hidden_size: 1280,
    intermediate_size: 3420,
    num_heads: 16,
    in_chans: 3,
    out_hidden_size: 2048,
    patch_size: 14,
    spatial_merge_size: 2,
    window_size: 112,
    fullatt_block_indexes: [7, 15, 23, 31],
    temporal_patch_size: 2,
  },
  rope_scaling: { type: 'mrope', mrope_section: [16, 24, 24] },
  vocab_size: 151936,
};

describe('parseConfig()', () => {
  it('reads the nested layout', () => {
    expect(parseConfig(tied())).toEqual({
      text: {
        vocabSize: 320,
        hiddenSize: 64,
        intermediateSize: 128,
        numHiddenLayers: 3,
        numAttentionHeads: 4,
        numKeyValueHeads: 2,
        headDim: 16,
        rmsNormEps: 1e-6,
        ropeTheta: 1e6,
        mropeSection: [2, 3, 3],
        maxPositionEmbeddings: 4096,
        paddingId: 314,
      },
      vision: {
        depth: 4,
        hiddenSize: 32,
        intermediateSize: 64,
        numHeads: 2,
        headDim: 16,
        inChannels: 3,
        patchSize: 14,
        temporalPatchSize: 2,
        spatialMergeSize: 2,
        windowSize: 56,
        fullattBlockIndexes: [1, 3],
        outHiddenSize: 64,
        ropeTheta: 10000,
        rmsNormEps: 1e-6,
      },
      tieWordEmbeddings: true,
      imageTokenId: 316,
      videoTokenId: 317,
      visionStartTokenId: 318,
      visionEndTokenId: 319,
      bosTokenId: 314,
      eosTokenIds: [315],
      padTokenId: 314,
    });
  });

  it('reads the flat layout with rope_scaling', () => {
    const config = parseConfig(FLAT);
    expect(config.text).toMatchObject({ hiddenSize: 2048, headDim: 128, ropeTheta: 1e6, mropeSection: [16, 24, 24] });
    expect(config).toMatchObject({ tieWordEmbeddings: true, eosTokenIds: [151645], padTokenId: undefined });
    expect(config.vision.headDim).toBe(80);
  });

  it('gives absent keys the values of transformers', () => {
    const { rms_norm_eps, rope_theta, tie_word_embeddings, ...rest } = FLAT;
    const { depth, window_size, fullatt_block_indexes, ...vision } = FLAT.vision_config;
    const config = parseConfig({ ...rest, vision_config: vision });
    expect(config.text).toMatchObject({ rmsNormEps: 1e-5, ropeTheta: 1e6 });
    expect(config.vision).toMatchObject({ depth: 32, windowSize: 112, fullattBlockIndexes: [7, 15, 23, 31] });
    expect(config.tieWordEmbeddings).toBe(false);
    expect(parseConfig({ ...FLAT, num_key_value_heads: null }).text.numKeyValueHeads).toBe(16);
  });

  it('takes what transformers takes: blocks beyond the depth, odd windows, sliding windows that no layer has', () => {
    const vision_config = { ...FLAT.vision_config, depth: 2, window_size: 100 };
    expect(parseConfig({ ...FLAT, vision_config }).vision).toMatchObject({ depth: 2, windowSize: 100 });
    const sliding = { ...FLAT, use_sliding_window: true };
    expect(parseConfig({ ...sliding, max_window_layers: 36 }).text.numHiddenLayers).toBe(36);
    expect(parseConfig({ ...sliding, max_window_layers: 0, sliding_window: null }).text.numHiddenLayers).toBe(36);
    expect(() => parseConfig({ ...sliding, max_window_layers: 35 })).toThrow(/use_sliding_window is not supported/);
  });

  it('finds tied embeddings at either level', () => {
    for (const [top, inner] of [
      [true, undefined],
      [undefined, true],
      [false, true],
    ]) {
      const json = tied();
      json['tie_word_embeddings'] = top;
      json.text_config['tie_word_embeddings'] = inner;
      expect(parseConfig(json).tieWordEmbeddings).toBe(true);
    }
  });

  it('refuses other models and other JSON', () => {
    expect(() => parseConfig({ ...FLAT, model_type: 'qwen3_vl' }, 'x/config.json')).toThrow(
      expect.objectContaining({
        code: 'MODEL_CONFIG_INVALID',
        message: 'x/config.json describes a model of type "qwen3_vl", not "qwen2_5_vl"',
      }),
    );
    expect(() => parseConfig([])).toThrow(expect.objectContaining({ code: 'MODEL_CONFIG_INVALID' }));
  });

  it('lists every wrong value', () => {
    const json = tied();
    json.text_config['hidden_size'] = '64';
    Object.assign(json.text_config, {
      use_sliding_window: true,
      sliding_window: 8,
      layer_types: ['sliding_attention'],
    });
    json.text_config['rope_parameters'] = { rope_type: 'yarn', mrope_section: [2, 3] };
    json.vision_config['num_heads'] = 0;
    json['image_token_id'] = -1;
    let message = '';
    try {
      parseConfig(json);
    } catch (error) {
      message = (error as Error).message;
    }
    expect(message.split('\n').slice(1).toSorted()).toEqual([
      '  image_token_id is -1, expected a token id',
      '  text_config.hidden_size is "64", expected a whole number above 0',
      '  text_config.rope_parameters.mrope_section is [2,3], expected three whole numbers',
      '  text_config.rope_parameters.rope_type "yarn" is not supported',
      '  text_config.use_sliding_window is not supported',
      '  vision_config.num_heads is 0, expected a whole number above 0',
    ]);
  });

  it.each([
    [{ num_attention_heads: 5 }, /no multiple of num_attention_heads 5/],
    [{ num_key_value_heads: 3 }, /no multiple of num_key_value_heads 3/],
    [{ rope_scaling: { mrope_section: [16, 24, 25] } }, /does not add up to half of the head width 128/],
    [{ vision_config: { ...FLAT.vision_config, num_heads: 128 } }, /no multiple of 4/],
    [{ vision_config: { ...FLAT.vision_config, out_hidden_size: 1024 } }, /out_hidden_size 1024/],
    [{ vision_config: { ...FLAT.vision_config, window_size: 27 } }, /window_size 27 is below patch_size/],
    [{ vocab_size: 151655 }, /image_token_id 151655 is outside the vocabulary/],
    [{ num_hidden_layers: 1e9 }, /num_hidden_layers 1000000000 is above 1024/],
    [{ hidden_act: 'gelu' }, /hidden_act is "gelu", expected "silu"/],
  ])('refuses the impossible sizes %j', (change, message) => {
    expect(() => parseConfig({ ...FLAT, ...change })).toThrow(message);
  });
});

describe('parameterSpecs()', () => {
  it.each(['tiny_tied', 'tiny_untied'])('names exactly the tensors of %s with their shapes', (name) => {
    const config = parseConfig(JSON.parse(readFileSync(fixture(`${name}/config.json`), 'utf8')));
    const file = openSafetensors(fixture(`${name}/model.safetensors`));
    const expected = Object.fromEntries(file.names.map((tensor) => [tensor, file.info(tensor).shape]));
    expect(Object.fromEntries(parameterSpecs(config).map((spec) => [spec.name, spec.shape]))).toEqual(expected);
  });

  it('counts the parameters of the 3B model', () => {
    const count = parameterSpecs(parseConfig(FLAT)).reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b), 0);
    expect(count).toBe(3_754_622_976);
  });

  it('tells towers and kinds apart', () => {
    const byName = new Map(parameterSpecs(parseConfig(tied())).map((spec) => [spec.name, spec]));
    expect(byName.get('model.embed_tokens.weight')).toMatchObject({ kind: 'embedding', tower: 'text' });
    expect(byName.get('visual.patch_embed.proj.weight')).toMatchObject({ kind: 'matrix', tower: 'vision' });
    expect(byName.get('visual.merger.ln_q.weight')).toMatchObject({ kind: 'vector', tower: 'projector' });
    expect(byName.get('model.layers.0.self_attn.q_proj.bias')).toMatchObject({ kind: 'vector', tower: 'text' });
  });
});

describe('canonicalName()', () => {
  it('maps module names to the names on disk', () => {
    expect(canonicalName('model.language_model.layers.0.mlp.up_proj.weight')).toBe('model.layers.0.mlp.up_proj.weight');
    expect(canonicalName('model.visual.blocks.0.attn.qkv.bias')).toBe('visual.blocks.0.attn.qkv.bias');
    expect(canonicalName('lm_head.weight')).toBe('lm_head.weight');
    expect(canonicalName('model.norm.weight')).toBe('model.norm.weight');
  });
});
