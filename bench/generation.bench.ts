/**
 * Tokens per second of sampling from a model of fr1-tiny's size with random weights: prompts of 64 tokens with one image
 * of 112 x 112 pixels, 80 new tokens each, 2 threads.
 *
 * Run: npx vitest bench --run bench/generation.bench.ts
 */
import { bench, describe } from 'vitest';
import type { GenerationRequest, SamplingOptions } from '../src/engine/generate/types.ts';
import { parseConfig } from '../src/engine/models/qwen2_5_vl/config.ts';
import { createGenerator } from '../src/engine/models/qwen2_5_vl/generator.ts';
import { initialiseWeights } from '../src/engine/models/qwen2_5_vl/initialise.ts';
import { parameterSpecs } from '../src/engine/models/qwen2_5_vl/parameters.ts';
import { ParameterStore } from '../src/engine/optim/parameter-store.ts';
import { RandomStream } from '../src/engine/random.ts';
import { openRuntime } from '../src/engine/session/open-runtime.ts';
import { bareSource } from '../test/helpers/session-source.ts';

const IMAGE_TOKEN = 5;
const PROMPT_TOKENS = 64;
const NEW_TOKENS = 80;

const config = parseConfig({
  model_type: 'qwen2_5_vl',
  hidden_size: 192,
  intermediate_size: 512,
  num_hidden_layers: 4,
  num_attention_heads: 6,
  num_key_value_heads: 2,
  max_position_embeddings: 2048,
  rms_norm_eps: 1e-6,
  rope_theta: 10000,
  rope_scaling: { type: 'mrope', mrope_section: [4, 6, 6] },
  vocab_size: 768,
  tie_word_embeddings: true,
  bos_token_id: 0,
  eos_token_id: 1,
  image_token_id: IMAGE_TOKEN,
  video_token_id: 6,
  vision_start_token_id: 3,
  vision_end_token_id: 4,
  vision_config: {
    depth: 4,
    hidden_size: 64,
    intermediate_size: 128,
    num_heads: 4,
    out_hidden_size: 192,
    patch_size: 14,
    spatial_merge_size: 2,
    temporal_patch_size: 2,
    window_size: 56,
    fullatt_block_indexes: [1, 3],
  },
});

const store = new ParameterStore(
  parameterSpecs(config).map(({ name, shape }) => ({ name, shape, trainable: true, decay: false })),
);
initialiseWeights(store, config, 1);
const generator = createGenerator(bareSource(await openRuntime({ threads: 2 })), config, store.tensors);

function requests(count: number): GenerationRequest[] {
  return Array.from({ length: count }, (_, seed) => {
    const stream = new RandomStream(seed, 'prompt');
    const inputIds = Int32Array.from({ length: PROMPT_TOKENS }, (_, t) =>
      t >= 10 && t < 26 ? IMAGE_TOKEN : 10 + stream.integer(700),
    );
    const pixels = Float32Array.from({ length: 64 * 1176 }, () => stream.normal());
    return { inputIds, images: [{ pixels, grid: [1, 8, 8] }], seed };
  });
}

const SAMPLING: SamplingOptions = {
  maxNewTokens: NEW_TOKENS,
  temperature: 1,
  topP: 1,
  topK: 0,
  repetitionPenalty: 1,
  stopTokenIds: [],
  bannedTokenIds: [IMAGE_TOKEN, 6, 3, 4],
  samplesPerRequest: 1,
};

const NUCLEUS: SamplingOptions = { ...SAMPLING, topP: 0.9 };

describe('generate()', () => {
  for (const [prompts, samples, sampling, title] of [
    [256, 1, SAMPLING, 'one sample'],
    [32, 8, SAMPLING, '8 samples'],
    [32, 8, NUCLEUS, '8 samples, top-p 0.9'],
    [8, 1, SAMPLING, 'one sample'],
  ] as const) {
    const given = requests(prompts);
    bench(
      `${prompts} prompts, ${title}`,
      async () => {
        const start = performance.now();
        await generator.generate(given, { ...sampling, samplesPerRequest: samples }, {});
        const tokens = prompts * samples * NEW_TOKENS;
        const rate = (tokens / (performance.now() - start)) * 1000;
        console.log(`${prompts} prompts, ${title}: ${rate.toFixed(0)} tokens/s`);
      },
      { iterations: 3, time: 0, warmupIterations: 1, warmupTime: 0 },
    );
  }
});
