/**
 * Times generation on random weights: prompts shared by their samples against a copy for each, and what drawing tokens costs
 * beside the model.
 *
 *   npm run build && node scripts/bench-generation.mjs [shared | sampling]
 */
import { PLAIN_SAMPLING } from '../dist/src/engine/generate/plain-sampling.js';
import { Sampler } from '../dist/src/engine/generate/sampler.js';
import { parseConfig } from '../dist/src/engine/models/qwen2_5_vl/config.js';
import { decodeGraph } from '../dist/src/engine/models/qwen2_5_vl/decoder.js';
import { createGenerator } from '../dist/src/engine/models/qwen2_5_vl/generator.js';
import { initialiseWeights } from '../dist/src/engine/models/qwen2_5_vl/initialise.js';
import { zeroWeights } from '../dist/src/engine/models/qwen2_5_vl/training-model.js';
import { Program } from '../dist/src/engine/program.js';
import { RandomStream } from '../dist/src/engine/random.js';
import { openRuntime } from '../dist/src/engine/session/open-runtime.js';

const NEW_TOKENS = 48;
const REPEATS = 3;

const SIZES = {
  '5M': { hiddenSize: 256, intermediateSize: 1024, layers: 4, heads: 4, keyValueHeads: 2, vocabulary: 1024 },
  '40M': { hiddenSize: 512, intermediateSize: 2048, layers: 10, heads: 8, keyValueHeads: 2, vocabulary: 8192 },
  'real vocabulary': {
    hiddenSize: 512,
    intermediateSize: 2048,
    layers: 4,
    heads: 8,
    keyValueHeads: 2,
    vocabulary: 151936,
  },
};

function configOf({ hiddenSize, intermediateSize, layers, heads, keyValueHeads, vocabulary }) {
  const pairs = hiddenSize / heads / 2;
  const spatial = Math.round(pairs * 0.375);
  const specials = ['image_token_id', 'video_token_id', 'vision_start_token_id', 'vision_end_token_id', 'eos_token_id'];
  return parseConfig({
    model_type: 'qwen2_5_vl',
    hidden_size: hiddenSize,
    intermediate_size: intermediateSize,
    num_hidden_layers: layers,
    num_attention_heads: heads,
    num_key_value_heads: keyValueHeads,
    vocab_size: vocabulary,
    rms_norm_eps: 1e-6,
    rope_theta: 10000,
    rope_scaling: { type: 'mrope', mrope_section: [pairs - 2 * spatial, spatial, spatial] },
    tie_word_embeddings: true,
    ...Object.fromEntries(specials.map((name, i) => [name, vocabulary - 1 - i])),
    vision_config: {
      hidden_size: 64,
      intermediate_size: 128,
      depth: 1,
      num_heads: 2,
      out_hidden_size: hiddenSize,
      patch_size: 14,
      spatial_merge_size: 2,
      temporal_patch_size: 2,
      window_size: 112,
      in_chans: 3,
      fullatt_block_indexes: [0],
    },
  });
}

const sampling = (changes) => ({
  maxNewTokens: NEW_TOKENS,
  ...PLAIN_SAMPLING,
  ...changes,
});

const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];

const runtime = await openRuntime({ threads: 2 });
const source = {
  provider: 'cpu',
  session: (_key, create) => {
    const { model, options } = create();
    return runtime.createSession(model, options);
  },
};

function modelOf(size) {
  const config = configOf(SIZES[size]);
  const weights = zeroWeights(config);
  initialiseWeights(weights.trained, config, 1);
  return { config, weights };
}

/** Prompts of equal length with several samples each, the two caches in turns. */
async function compareCaches(size) {
  const { config, weights } = modelOf(size);
  const stream = new RandomStream('prompts');
  console.log(`${size}, ${NEW_TOKENS} new tokens, ms: a copy of the prompt for each sample, shared, ratio`);
  for (const [prompts, samples, length] of [
    [8, 5, 48],
    [8, 5, 128],
    [4, 8, 128],
    [4, 8, 512],
    [1, 32, 512],
    [1, 32, 1024],
  ]) {
    const requests = Array.from({ length: prompts }, (_, seed) => ({
      inputIds: Int32Array.from({ length }, () => stream.integer(config.text.vocabSize - 10)),
      images: [],
      seed,
    }));
    const caches = [Infinity, 0].map((sharePromptsFrom) =>
      createGenerator(source, config, weights, { sharePromptsFrom }),
    );
    const times = [[], []];
    for (let round = 0; round <= REPEATS; round++) {
      for (const [i, generator] of caches.entries()) {
        const start = performance.now();
        await generator.generate(requests, sampling({ samplesPerRequest: samples }), {});
        // The first round compiles.
        if (round > 0) times[i].push(performance.now() - start);
      }
    }
    const [copied, shared] = times.map(median);
    const place = `${prompts} prompts x ${samples} samples, ${length} tokens`;
    console.log(
      `  ${place.padEnd(40)} ${copied.toFixed(0).padStart(6)} ${shared.toFixed(0).padStart(6)}  ${(copied / shared).toFixed(2)}`,
    );
    for (const generator of caches) await generator.release();
  }
}

/** One decode step of 32 sequences over the real vocabulary: the graph, and drawing 32 tokens from what it gives. */
async function compareSampling(size) {
  const { config, weights } = modelOf(size);
  const [rows, past] = [32, 64];
  const { headDim, numKeyValueHeads: groups, vocabSize, numHiddenLayers } = config.text;
  const float = (shape, fill = 0.01) => ({
    dtype: 'float32',
    shape,
    data: new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(fill),
  });
  const seen = new Int32Array(rows * 800).map((_, i) => (i * 7919) % vocabSize);
  const feeds = {
    ids: { dtype: 'int32', shape: [rows], data: Int32Array.from({ length: rows }, (_, i) => 100 * i) },
    cos: float([rows, 1, headDim / 2], 1),
    sin: float([rows, 1, headDim / 2], 0),
    mask: float([past, rows], 0),
    seen: { dtype: 'int32', shape: [rows, 800], data: seen },
  };
  for (let layer = 0; layer < numHiddenLayers; layer++) {
    for (const kind of ['k', 'v']) feeds[`past_${kind}${layer}`] = float([past, rows, groups, headDim]);
  }
  console.log(`${size} (${vocabSize} tokens), ${rows} rows, ms a step: graph, drawing, share of drawing`);
  for (const [name, changes] of [
    ['greedy', { temperature: 0 }],
    ['greedy, penalty 1.05', { temperature: 0, repetitionPenalty: 1.05 }],
    ['temperature 1', {}],
    ['temperature 0.7, bans', { temperature: 0.7, bannedTokenIds: [1, 2, 3] }],
    ['top-p 0.99', { topP: 0.99 }],
    ['top-p 0.9, top-k 50, penalty', { topP: 0.9, topK: 50, repetitionPenalty: 1.05 }],
  ]) {
    const sampler = new Sampler(sampling(changes), vocabSize);
    const { graph, outputs } = decodeGraph(config, sampler.rule, weights);
    const program = await Program.compile(source, graph, outputs, { key: name });
    const own = {
      ...feeds,
      penalty: float([1], sampler.penalty),
      logit_bias: { dtype: 'float32', shape: [vocabSize], data: sampler.logitBias },
      inverse_temperature: float([1], sampler.inverseTemperature),
    };
    const all = Object.fromEntries(program.feeds.map(({ name: feed }) => [feed, own[feed] ?? weights.tensor(feed)]));
    const into = { scores: float([rows, vocabSize]) };
    const stream = new RandomStream('draw');
    const times = [[], []];
    for (let round = 0; round < 8; round++) {
      const start = performance.now();
      await program.run(all, { into });
      const computed = performance.now();
      for (let row = 0; row < rows; row++) {
        sampler.pick(into.scores.data.subarray(row * vocabSize, (row + 1) * vocabSize), stream);
      }
      if (round < 2) continue;
      times[0].push(computed - start);
      times[1].push(performance.now() - computed);
    }
    const [ran, drew] = times.map(median);
    console.log(
      `  ${name.padEnd(30)} ${ran.toFixed(1).padStart(7)} ${drew.toFixed(1).padStart(7)}  ${((100 * drew) / (ran + drew)).toFixed(0)} %`,
    );
    await program.release();
  }
}

const [what] = process.argv.slice(2);
if (what !== 'sampling') for (const size of ['5M', '40M']) await compareCaches(size);
if (what !== 'shared') await compareSampling('real vocabulary');
await runtime.close();
