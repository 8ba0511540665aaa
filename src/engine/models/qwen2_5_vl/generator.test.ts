/**
 * Greedy tokens against transformers 5.17 / torch 2.11 in float32 (test/fixtures/qwen2_5_vl): 16 tokens, no end of
 * sequence, no repetition penalty. The batch there is left-padded; here prompts are given without padding.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fixture } from '../../../../test/helpers/fixtures.ts';
import { bareSource } from '../../../../test/helpers/session-source.ts';
import type { Fr1Error } from '../../../errors/fr1-error.ts';
import { PLAIN_SAMPLING } from '../../generate/plain-sampling.ts';
import type { Completion, GenerationRequest, ImagePatches, SamplingOptions } from '../../generate/types.ts';
import { Program } from '../../program.ts';
import { RandomStream } from '../../random.ts';
import { openRuntime } from '../../session/open-runtime.ts';
import type { Runtime } from '../../session/runtime.ts';
import { openCheckpoint, saveCheckpoint } from '../../weights/checkpoint.ts';
import { MemoryWeights, ModelWeights } from '../../weights/model-weights.ts';
import { openSafetensors } from '../../weights/safetensors.ts';
import { buildBatch, type Row } from './batch.ts';
import { parseConfig } from './config.ts';
import { cacheBytesPerToken } from './decoder.ts';
import { createGenerator, type GeneratorOptions } from './generator.ts';
import { initialiseWeights } from './initialise.ts';
import { openVisionLanguageModel } from './open-model.ts';
import { logProbGraph, TrainingModel } from './training-model.ts';

const CASES = ['tiny_tied', 'tiny_untied'] as const;

function numbers(path: string, name: string): number[] {
  return Array.from(openSafetensors(path).read(name).data as ArrayLike<number | bigint>, Number);
}

function loaded(name: (typeof CASES)[number]) {
  const dir = fixture('qwen2_5_vl', name);
  const expected = join(dir, 'expected.safetensors');
  const checkpoint = openCheckpoint(dir);
  const { config } = checkpoint;
  const [rows, tokens] = openSafetensors(expected).info('input_ids').shape as [number, number];
  const ids = numbers(expected, 'input_ids');
  const mask = numbers(expected, 'attention_mask');
  const grids = numbers(expected, 'image_grid_thw');
  const pixels = openSafetensors(expected).readFloat32('pixel_values').data;
  const images: ImagePatches[] = [];
  let patch = 0;
  for (let i = 0; i < grids.length; i += 3) {
    const grid = [grids[i]!, grids[i + 1]!, grids[i + 2]!] as const;
    const count = grid[0] * grid[1] * grid[2];
    images.push({ grid, pixels: pixels.subarray(patch * 1176, (patch + count) * 1176) });
    patch += count;
  }
  let image = 0;
  const requests = Array.from({ length: rows }, (_, b): GenerationRequest => {
    const own = ids.slice(b * tokens, (b + 1) * tokens).filter((_, t) => mask[b * tokens + t] === 1);
    const starts = own.filter((id, t) => id === config.imageTokenId && own[t - 1] !== config.imageTokenId);
    return { inputIds: Int32Array.from(own), images: starts.map(() => images[image++]!), seed: b };
  });
  const generated = numbers(join(dir, 'expected_generate.safetensors'), 'generated');
  const perRow = generated.length / rows;
  const greedy = requests.map((_, b) => generated.slice(b * perRow, (b + 1) * perRow));
  const weights = ModelWeights.frozen(
    new MemoryWeights(checkpoint.parameters.map(({ name }) => [name, checkpoint.readFloat32(name)])),
  );
  return { config, checkpoint, requests, greedy, weights };
}

const GREEDY: SamplingOptions = { ...PLAIN_SAMPLING, maxNewTokens: 16, temperature: 0 };
const SAMPLED: SamplingOptions = { ...GREEDY, temperature: 1 };

let runtime: Runtime;
beforeAll(async () => {
  runtime = await openRuntime({ threads: 2 });
});
afterAll(() => runtime.close());

function generator(name: (typeof CASES)[number], options: GeneratorOptions = {}) {
  const { config, weights } = loaded(name);
  return createGenerator(bareSource(runtime), config, weights, options);
}

/** The prompts of a case and shorter ones cut from their texts, so that lengths differ. */
function ragged(name: (typeof CASES)[number], count: number): GenerationRequest[] {
  const { requests, config } = loaded(name);
  return Array.from({ length: count }, (_, seed) => {
    const { inputIds, images } = requests[seed % requests.length]!;
    const afterImages = inputIds.lastIndexOf(config.imageTokenId) + 2;
    const keeps = seed % 3 === 2 ? [] : images;
    const from = keeps.length === 0 ? afterImages : 0;
    return { inputIds: inputIds.slice(from, inputIds.length - (seed % 4)), images: keeps, seed };
  });
}

/** Logits before every generated token, computed from whole sequences; one list of rows per completion. */
async function teacherForced(
  name: (typeof CASES)[number],
  requests: readonly GenerationRequest[],
  completions: readonly (readonly Completion[])[],
): Promise<Float32Array[][][]> {
  const { config, weights } = loaded(name);
  const images = [...new Set(requests.flatMap((request) => request.images))];
  const rows = requests.map(
    ({ inputIds, images: own }, r): Row => ({
      prefix: inputIds,
      images: own.map((image) => images.indexOf(image)),
      branches: completions[r]!.map(({ tokenIds }) => ({ ids: tokenIds })),
    }),
  );
  const batch = buildBatch(config, rows, images);
  const { graph, logits } = logProbGraph(config, batch.visionKind);
  const program = await Program.compile(bareSource(runtime), graph, { logits }, { key: 'teacher-forced' });
  const feeds = Object.fromEntries(
    program.feeds.map((feed) => [feed.name, batch.feeds[feed.name] ?? weights.tensor(feed.name)]),
  );
  const { data, shape } = (await program.run(feeds))['logits']!;
  const width = shape[1]!;
  return batch.spans.map((spans) =>
    spans.map(({ start, length }) =>
      Array.from({ length }, (_, k) => (data as Float32Array).subarray((start + k) * width, (start + k + 1) * width)),
    ),
  );
}

function softmax(logits: ArrayLike<number>, temperature = 1): Float64Array {
  const highest = Array.from(logits).reduce((a, b) => Math.max(a, b));
  const weights = Float64Array.from(logits, (logit) => Math.exp((logit - highest) / temperature));
  const sum = weights.reduce((a, b) => a + b);
  return weights.map((weight) => weight / sum);
}

const tokensOf = (completions: readonly (readonly Completion[])[]) =>
  completions.map((samples) => samples.map(({ tokenIds }) => tokenIds));

describe.each(CASES)('%s', (name) => {
  it('gives the greedy tokens of transformers', async () => {
    const { requests, greedy } = loaded(name);
    const got = await generator(name).generate(requests, GREEDY, {});
    expect(tokensOf(got)).toEqual(greedy.map((tokens) => [tokens]));
    expect(got.flat().map(({ finishReason }) => finishReason)).toEqual(['length', 'length']);
  });

  it('samples, token by token, from the probabilities of the whole sequence', async () => {
    const requests = ragged(name, 5);
    const stopTokenIds = [3, 50, 77, 100, 149, 200, 250, 291];
    const sampling = { ...SAMPLED, temperature: 0.7, maxNewTokens: 24, samplesPerRequest: 3, stopTokenIds };
    const got = await generator(name).generate(requests, sampling, {});
    const logits = await teacherForced(name, requests, got);
    let checked = 0;
    let worst = 0;
    got.forEach((samples, r) => {
      samples.forEach(({ tokenIds }, child) => {
        const stream = new RandomStream(requests[r]!.seed, 'sample', child);
        tokenIds.forEach((token, k) => {
          const probabilities = softmax(logits[r]![child]![k]!, 0.7);
          const before = probabilities.subarray(0, token).reduce((a, b) => a + b, 0);
          const uniform = stream.uniform();
          worst = Math.max(worst, before - uniform, uniform - before - probabilities[token]!);
          checked++;
        });
      });
    });
    expect(worst).toBeLessThan(1e-4);
    expect(checked).toBeGreaterThan(100);
    expect(new Set(got.flat().map(({ finishReason }) => finishReason))).toEqual(new Set(['stop', 'length']));
  });
});

describe('generate()', () => {
  it('gives the same tokens however sequences are batched, ordered and compacted', async () => {
    const requests = ragged('tiny_tied', 7);
    const sampling = { ...SAMPLED, maxNewTokens: 20, samplesPerRequest: 3, stopTokenIds: [3, 50, 100, 149, 200] };
    const expected = tokensOf(await generator('tiny_tied').generate(requests, sampling, {}));
    const lengths = expected.flat().map((tokens) => tokens.length);
    expect(Math.min(...lengths)).toBeLessThan(12);
    expect(Math.max(...lengths)).toBeGreaterThan(14);
    const perToken = cacheBytesPerToken(loaded('tiny_tied').config);
    for (const options of [
      { maxBatch: 1 },
      { maxBatch: 2 },
      { maxBatch: 5 },
      { maxPrefillTokens: 1 },
      { maxPrefillTokens: 200 },
      { compactBelow: 0 },
      { compactBelow: 1 },
      { maxCacheBytes: 200 * perToken },
    ]) {
      const got = await generator('tiny_tied', options).generate(requests, sampling, {});
      expect(tokensOf(got), JSON.stringify(options)).toEqual(expected);
    }
    const backwards = await generator('tiny_tied').generate([...requests].reverse(), sampling, {});
    expect(tokensOf(backwards).reverse()).toEqual(expected);
    const alone = await generator('tiny_tied').generate([requests[3]!], sampling, {});
    expect(tokensOf(alone)).toEqual([expected[3]]);
  });

  it('gives samples of a request that differ, and the same ones for the same seed', async () => {
    const [request] = loaded('tiny_tied').requests as [GenerationRequest];
    const hot = { ...SAMPLED, temperature: 2, samplesPerRequest: 4, maxNewTokens: 8 };
    const model = generator('tiny_tied');
    const once = tokensOf(await model.generate([request], hot, {}));
    const again = tokensOf(await model.generate([request, { ...request, seed: 99 }], hot, {}));
    expect(new Set(once[0]!.map((tokens) => tokens.join())).size).toBe(4);
    expect(again[0]).toEqual(once[0]);
    expect(again[1]).not.toEqual(once[0]);
  });

  it('runs on the worker runtime as on the C API', async () => {
    const worker = await openRuntime({ threads: 2, prefer: 'worker' });
    try {
      const { config, weights, requests, greedy } = loaded('tiny_tied');
      const model = createGenerator(bareSource(worker), config, weights);
      expect(worker.name).toBe('worker');
      expect(tokensOf(await model.generate(requests, GREEDY, {}))).toEqual(greedy.map((tokens) => [tokens]));
    } finally {
      await worker.close();
    }
  });

  it('ends a completion with the first stop token, which belongs to it', async () => {
    const { requests, greedy } = loaded('tiny_untied');
    const stop = greedy[0]![5]!;
    const first = greedy[0]!.indexOf(stop);
    const [[completion]] = (await generator('tiny_untied').generate(
      requests.slice(0, 1),
      { ...GREEDY, stopTokenIds: [stop] },
      {},
    )) as [[Completion]];
    expect(completion).toMatchObject({ tokenIds: greedy[0]!.slice(0, first + 1), finishReason: 'stop' });
  });

  it('ends with the first token where that is a stop token or the only one asked for', async () => {
    const { requests, greedy } = loaded('tiny_tied');
    const stops = { ...GREEDY, stopTokenIds: greedy.map(([token]) => token!) };
    expect(await generator('tiny_tied').generate(requests, stops, {})).toMatchObject(
      greedy.map(([token]) => [{ tokenIds: [token], finishReason: 'stop' }]),
    );
    expect(await generator('tiny_tied').generate(requests, { ...GREEDY, maxNewTokens: 1 }, {})).toMatchObject(
      greedy.map(([token]) => [{ tokenIds: [token], finishReason: 'length' }]),
    );
  });

  it('never samples a banned token', async () => {
    const { requests, greedy } = loaded('tiny_tied');
    const banned = [...new Set(greedy.flat())];
    for (const sampling of [GREEDY, SAMPLED, { ...SAMPLED, repetitionPenalty: 1.1 }]) {
      const got = await generator('tiny_tied').generate(
        requests,
        { ...sampling, bannedTokenIds: banned, samplesPerRequest: 2 },
        {},
      );
      const tokens = new Set(got.flat().flatMap(({ tokenIds }) => tokenIds));
      expect(banned.filter((token) => tokens.has(token))).toEqual([]);
    }
  });

  it('applies the repetition penalty to the tokens of prompt and completion', async () => {
    const requests = ragged('tiny_tied', 3);
    const penalty = 1.7;
    const got = await generator('tiny_tied').generate(requests, { ...GREEDY, repetitionPenalty: penalty }, {});
    const logits = await teacherForced('tiny_tied', requests, got);
    const wanted = got.map(([completion], r) => {
      const seen = new Set(requests[r]!.inputIds);
      return completion!.tokenIds.map((token, k) => {
        const row = Array.from(logits[r]![0]![k]!, (x, v) => (seen.has(v) ? (x < 0 ? x * penalty : x / penalty) : x));
        seen.add(token);
        return row.indexOf(Math.max(...row));
      });
    });
    expect(got.map(([completion]) => completion!.tokenIds)).toEqual(wanted);
    const plain = await generator('tiny_tied').generate(requests, GREEDY, {});
    expect(tokensOf(plain)).not.toEqual(tokensOf(got));
  });

  it('reads the weights anew, so that it follows training', async () => {
    const { config, requests, checkpoint, greedy } = loaded('tiny_tied');
    const model = new TrainingModel(bareSource(runtime), config);
    const live = createGenerator(bareSource(runtime), config, model.weights);
    const zero = await live.generate(requests, GREEDY, {});
    expect(tokensOf(zero)).not.toEqual(greedy.map((tokens) => [tokens]));
    for (const { name } of checkpoint.parameters) checkpoint.readFloat32(name, model.store.tensor(name).data);
    expect(tokensOf(await live.generate(requests, GREEDY, {}))).toEqual(greedy.map((tokens) => [tokens]));
  });

  it.each([0.75, 1])(
    'says the same where samples share the cache of their prompt, compacting below %d',
    async (compactBelow) => {
      // Prompts of different lengths, one of a single token, and answers that end at different times.
      const requests = [...ragged('tiny_tied', 5), { inputIds: Int32Array.of(7), images: [], seed: 9 }];
      const sampling = {
        ...SAMPLED,
        maxNewTokens: 24,
        samplesPerRequest: 3,
        stopTokenIds: [3, 50, 100, 149, 200, 250],
      };
      const options = { maxBatch: 16, compactBelow };
      const apart = await generator('tiny_tied', { ...options, sharePromptsFrom: Infinity }).generate(
        requests,
        sampling,
        {},
      );
      const shared = await generator('tiny_tied', { ...options, sharePromptsFrom: 0 }).generate(requests, sampling, {});
      expect(tokensOf(shared)).toEqual(tokensOf(apart));
      const lengths = tokensOf(apart)
        .flat()
        .map(({ length }) => length);
      expect(new Set(lengths).size).toBeGreaterThan(3);
      shared.flat().forEach(({ logProbs }, i) => {
        logProbs!.forEach((logProb, k) => {
          expect(Math.abs(logProb - apart.flat()[i]!.logProbs![k]!)).toBeLessThan(1e-4);
        });
      });
    },
  );

  it('tells how many completions have ended', async () => {
    const seen: [number, number][] = [];
    await generator('tiny_tied', { maxBatch: 2 }).generate(
      ragged('tiny_tied', 3),
      { ...SAMPLED, samplesPerRequest: 2, stopTokenIds: [3, 50, 100, 149, 200] },
      { onProgress: (done, total) => seen.push([done, total]) },
    );
    expect(seen.at(-1)).toEqual([6, 6]);
    expect(seen.every(([, total]) => total === 6)).toBe(true);
    const counts = seen.map(([done]) => done);
    expect(counts).toEqual([...new Set(counts)].sort((a, b) => a - b));
  });

  it('gives nothing for no requests', async () => {
    expect(await generator('tiny_tied').generate([], GREEDY, {})).toEqual([]);
  });

  it('ends at an abort, long before the completions would', async () => {
    const abort = new AbortController();
    const requests = ragged('tiny_tied', 64);
    // Some completions end early, which tells that generation is under way.
    const stopTokenIds = Array.from({ length: 4 }, (_, i) => 100 + i);
    const ended: number[] = [];
    const running = generator('tiny_tied').generate(
      requests,
      { ...SAMPLED, maxNewTokens: 3000, samplesPerRequest: 2, stopTokenIds },
      {
        signal: abort.signal,
        onProgress: (done) => {
          ended.push(done);
          abort.abort(new Error('enough'));
        },
      },
    );
    await expect(running).rejects.toThrow('enough');
    expect(ended).toHaveLength(1);
    expect(ended[0]).toBeLessThan(128);
    await expect(generator('tiny_tied').generate(requests, GREEDY, { signal: abort.signal })).rejects.toThrow('enough');
  });

  it('refuses prompts that the model cannot read', async () => {
    const { requests, config } = loaded('tiny_tied');
    const [request] = requests as [GenerationRequest];
    const refusal = (given: Partial<GenerationRequest>) =>
      generator('tiny_tied')
        .generate([{ ...request, ...given }], GREEDY, {})
        .then(
          () => 'none',
          (error: unknown) => (error as Fr1Error).code,
        );
    expect(await refusal({ inputIds: new Int32Array(0) })).toBe('SAMPLING_INVALID');
    expect(await refusal({ inputIds: Int32Array.of(1, config.text.vocabSize), images: [] })).toBe('SAMPLING_INVALID');
    expect(await refusal({ images: [] })).toBe('IMAGE_COUNT_MISMATCH');
    const last = request.inputIds.lastIndexOf(config.imageTokenId);
    expect(await refusal({ inputIds: request.inputIds.slice(0, last + 1) })).toBe('SAMPLING_INVALID');
  });
});

describe('openVisionLanguageModel()', () => {
  it('answers from a model folder', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'fr1-open-model-'));
    try {
      const files = fixture('tokenizer_tiny');
      const rawConfig = JSON.parse(readFileSync(join(files, 'config.json'), 'utf8')) as Record<string, unknown>;
      const { config, store, weights } = new TrainingModel(bareSource(runtime), parseConfig(rawConfig));
      initialiseWeights(store, config, 1);
      await saveCheckpoint(folder, {
        config: rawConfig,
        tensors: store.parameters.map(({ name, shape }) => ({ name, shape, load: () => store.tensor(name) })),
        copyFrom: files,
      });
      const model = await openVisionLanguageModel(bareSource(runtime), folder);
      const { inputIds } = model.processor.encodeChat([{ role: 'user', content: 'What bird is it?' }], [], {
        addGenerationPrompt: true,
      });
      const sampling = { ...SAMPLED, stopTokenIds: model.processor.tokens.eos };
      const requests = [{ inputIds, images: [], seed: 5 }];
      const got = await model.generator.generate(requests, sampling, {});
      const same = createGenerator(bareSource(runtime), config, weights);
      expect(got).toEqual(await same.generate(requests, sampling, {}));
      expect(model.weights.tensor('model.norm.weight').data).toEqual(store.tensor('model.norm.weight').data);
      await model.release();
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
});
