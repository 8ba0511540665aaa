/**
 * Against transformers 5.17 / torch 2.11 in float32 (test/fixtures/qwen2_5_vl): a left-padded batch of two rows with one
 * and two images. Rows are laid out here without padding, so every comparison skips the padded positions.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fixture } from '../../../../test/helpers/fixtures.ts';
import { bareSource } from '../../../../test/helpers/session-source.ts';
import type { ImagePatches } from '../../generate/types.ts';
import { WEIGHTED_NLL } from '../../loss/weighted-nll.ts';
import { AdamW } from '../../optim/adamw.ts';
import { clipGlobalNorm } from '../../optim/gradients.ts';
import { ParameterStore } from '../../optim/parameter-store.ts';
import { Program } from '../../program.ts';
import { openRuntime } from '../../session/open-runtime.ts';
import type { Runtime } from '../../session/runtime.ts';
import { openCheckpoint } from '../../weights/checkpoint.ts';
import { fromFloat32, toFloat32 } from '../../weights/convert.ts';
import { MemoryWeights, ModelWeights } from '../../weights/model-weights.ts';
import { openSafetensors } from '../../weights/safetensors.ts';
import { type Batch, buildBatch, type Row } from './batch.ts';
import { logProbGraph, TrainingModel, trainedParameter } from './training-model.ts';

const CASES = ['tiny_tied', 'tiny_untied'] as const;

function numbers(path: string, name: string): number[] {
  return Array.from(openSafetensors(path).read(name).data as ArrayLike<number | bigint>, Number);
}

function golden(name: (typeof CASES)[number]) {
  const dir = fixture('qwen2_5_vl', name);
  const expected = join(dir, 'expected.safetensors');
  const checkpoint = openCheckpoint(dir);
  const { config } = checkpoint;
  const info = openSafetensors(expected);
  const [rows, tokens] = info.info('input_ids').shape as [number, number];
  const ids = numbers(expected, 'input_ids');
  const mask = numbers(expected, 'attention_mask');
  const labels = numbers(expected, 'labels');
  const grids = numbers(expected, 'image_grid_thw');
  const pixels = info.readFloat32('pixel_values').data;
  const images: ImagePatches[] = [];
  let patch = 0;
  for (let i = 0; i < grids.length; i += 3) {
    const grid = [grids[i]!, grids[i + 1]!, grids[i + 2]!] as const;
    const count = grid[0] * grid[1] * grid[2];
    images.push({ grid, pixels: pixels.subarray(patch * 1176, (patch + count) * 1176) });
    patch += count;
  }
  let image = 0;
  const layout: { row: Row; first: number; branchAt: number }[] = [];
  for (let b = 0; b < rows; b++) {
    const real = Array.from({ length: tokens }, (_, t) => t).filter((t) => mask[b * tokens + t] === 1);
    const rowIds = real.map((t) => ids[b * tokens + t]!);
    const rowLabels = real.map((t) => labels[b * tokens + t]!);
    const firstTarget = rowLabels.findIndex((label) => label >= 0);
    const lastImage = rowIds.lastIndexOf(config.imageTokenId);
    // The branch starts after the images, so that its positions simply count on.
    const branchAt = Math.max(Math.min(firstTarget, rowIds.length - 1), lastImage + 2);
    const starts = rowIds.filter((id, t) => id === config.imageTokenId && rowIds[t - 1] !== config.imageTokenId);
    layout.push({
      first: real[0]!,
      branchAt,
      row: {
        prefix: rowIds.slice(0, branchAt),
        images: starts.map(() => image++),
        branches: [
          { ids: rowIds.slice(branchAt), isTarget: rowLabels.slice(branchAt).map((label) => (label >= 0 ? 1 : 0)) },
        ],
      },
    });
  }
  const batch = buildBatch(
    config,
    layout.map(({ row }) => row),
    images,
  );
  return { dir, expected, checkpoint, config, layout, batch, tokens, images };
}

let runtime: Runtime;
beforeAll(async () => {
  runtime = await openRuntime({ threads: 2 });
});
afterAll(() => runtime.close());

function loaded(name: (typeof CASES)[number]) {
  const given = golden(name);
  const model = new TrainingModel(bareSource(runtime), given.config);
  for (const { name: parameter } of given.checkpoint.parameters) {
    given.checkpoint.readFloat32(parameter, model.store.tensor(parameter).data);
  }
  return { ...given, model };
}

function meanWeights(batch: Batch) {
  const count = batch.targets.length;
  return { weight: { dtype: 'float32', shape: [count], data: new Float32Array(count).fill(1 / count) } } as const;
}

describe.each(CASES)('%s', (name) => {
  it('gives the image embeddings of transformers', async () => {
    const { model, batch, config, expected } = loaded(name);
    const { graph, imageEmbeddings } = logProbGraph(config, batch.visionKind);
    const program = await Program.compile(bareSource(runtime), graph, { embeddings: imageEmbeddings! }, { key: name });
    const feeds = Object.fromEntries(
      program.feeds.map((feed) => [feed.name, batch.feeds[feed.name] ?? model.store.tensor(feed.name)]),
    );
    const { embeddings } = await program.run(feeds);
    const want = openSafetensors(expected).readFloat32('image_embeds').data;
    const width = embeddings!.shape[1]!;
    // Window order back to the order of the images, through the slots of the text.
    const slot = batch.feeds['slot']!.data as Int32Array;
    const order = Array.from(slot).filter((row) => row < embeddings!.shape[0]!);
    expect(order.length * width).toBe(want.length);
    let worst = 0;
    order.forEach((row, unit) => {
      for (let c = 0; c < width; c++) {
        worst = Math.max(worst, Math.abs(Number(embeddings!.data[row * width + c]) - want[unit * width + c]!));
      }
    });
    expect(worst).toBeLessThan(2e-4);
  });

  it('gives the logits and the loss of transformers', async () => {
    const { model, batch, config, expected, layout, tokens } = loaded(name);
    const { graph, logits } = logProbGraph(config, batch.visionKind);
    const program = await Program.compile(bareSource(runtime), graph, { logits }, { key: `${name}-logits` });
    const feeds = Object.fromEntries(
      program.feeds.map((feed) => [feed.name, batch.feeds[feed.name] ?? model.store.tensor(feed.name)]),
    );
    const got = (await program.run(feeds))['logits']!;
    const want = openSafetensors(expected).readFloat32('logits').data;
    const vocabulary = config.text.vocabSize;
    let worst = 0;
    let row = 0;
    layout.forEach(({ row: { branches }, first, branchAt }, b) => {
      const { isTarget } = branches[0]!;
      for (let k = 0; k < isTarget!.length; k++) {
        if (!isTarget![k]) continue;
        const at = b * tokens + first + branchAt + k - 1;
        for (let v = 0; v < vocabulary; v++) {
          const difference = Math.abs(Number(got.data[row * vocabulary + v]) - want[at * vocabulary + v]!);
          worst = Math.max(worst, difference);
        }
        row++;
      }
    });
    expect(row).toBe(batch.targets.length);
    expect(worst).toBeLessThan(2e-4);

    const result = await model.lossAndGradients(batch, WEIGHTED_NLL, meanWeights(batch), model.store.buffer());
    const [loss] = numbers(expected, 'loss');
    expect(Math.abs(result.loss - loss!) / loss!).toBeLessThan(1e-5);
  });

  it('gives likelihoods at a temperature as the logits of transformers have them, and their gradient', async () => {
    const { model, batch, config, expected, layout, tokens } = loaded(name);
    const temperature = 0.7;
    const cooled = new TrainingModel(bareSource(runtime), config, model.weights, 'whole', temperature);
    const got = await cooled.logProbs(batch);
    const logits = openSafetensors(expected).readFloat32('logits').data;
    const vocabulary = config.text.vocabSize;
    const want = layout.flatMap(({ row: { branches }, first, branchAt }, b) => {
      const { ids, isTarget } = branches[0]!;
      return Array.from(ids).flatMap((id, k) => {
        if (!isTarget![k]) return [];
        const from = (b * tokens + first + branchAt + k - 1) * vocabulary;
        const scaled = Array.from(logits.subarray(from, from + vocabulary), (logit) => logit / temperature);
        const most = Math.max(...scaled);
        return [scaled[id]! - most - Math.log(scaled.reduce((sum, logit) => sum + Math.exp(logit - most), 0))];
      });
    });
    expect(got.length).toBe(want.length);
    got.forEach((value, i) => {
      expect(Math.abs(value - want[i]!)).toBeLessThan(5e-4);
    });

    // Along the gradient the loss rises by its squared norm.
    const gradients = model.store.buffer();
    await cooled.lossAndGradients(batch, WEIGHTED_NLL, meanWeights(batch), gradients);
    const squaredNorm = gradients.reduce((sum, slope) => sum + slope * slope, 0);
    const before = model.store.flat.slice();
    const lossAt = async (by: number) => {
      before.forEach((value, i) => {
        model.store.flat[i] = value + by * gradients[i]!;
      });
      const logProbs = await cooled.logProbs(batch);
      return -logProbs.reduce((sum, value) => sum + value / logProbs.length, 0);
    };
    const step = 0.005 / Math.sqrt(squaredNorm);
    const slope = ((await lossAt(step)) - (await lossAt(-step))) / (2 * step);
    expect(Math.abs(slope / squaredNorm - 1)).toBeLessThan(0.02);
  });

  it('gives the gradient of every weight', async () => {
    const { model, batch, dir, checkpoint } = loaded(name);
    const gradients = model.store.buffer();
    await model.lossAndGradients(batch, WEIGHTED_NLL, meanWeights(batch), gradients);
    const file = openSafetensors(join(dir, 'expected_grads.safetensors'));
    const worst = { name: '', error: 0 };
    for (const { name: parameter } of checkpoint.parameters) {
      const module = parameter
        .replace(/^visual\./, 'model.visual.')
        .replace(/^model\.(?!visual)/, 'model.language_model.');
      const want = file.readFloat32(module).data;
      const got = model.store.view(gradients, parameter).data;
      let difference = 0;
      let norm = 0;
      want.forEach((value, i) => {
        difference += (got[i]! - value) ** 2;
        norm += value ** 2;
      });
      const error = Math.sqrt(difference / norm);
      if (!(error <= worst.error)) Object.assign(worst, { name: parameter, error });
    }
    expect(worst.error, worst.name).toBeLessThan(2e-4);
  });
});

describe('frozen weights', () => {
  it.each(['bfloat16', 'float16'] as const)('in %s count as the same weights widened', async (dtype) => {
    const { checkpoint, config, batch } = golden('tiny_tied');
    const narrow = checkpoint.parameters.map(({ name, shape }) => {
      const data = fromFloat32(checkpoint.readFloat32(name).data, dtype) as Uint16Array;
      return [name, { dtype, shape, data }] as const;
    });
    const wide = narrow.map(([name, tensor]) => {
      return [name, { dtype: 'float32', shape: tensor.shape, data: toFloat32(tensor) }] as const;
    });
    const [got, want] = await Promise.all(
      [narrow, wide].map((weights) => {
        const model = new TrainingModel(bareSource(runtime), config, ModelWeights.frozen(new MemoryWeights(weights)));
        return model.logProbs(batch);
      }),
    );
    expect(got).toEqual(want);
  });

  it('have no gradients, and leave those of the trained weights alone', async () => {
    const { model: whole, checkpoint, config, batch } = loaded('tiny_tied');
    const trained = checkpoint.parameters.filter(({ tower }) => tower === 'projector');
    const store = new ParameterStore(trained.map(trainedParameter));
    for (const { name } of trained) checkpoint.readFloat32(name, store.tensor(name).data);
    const frozen = checkpoint.parameters.filter(({ tower }) => tower !== 'projector');
    const rest = new MemoryWeights(frozen.map(({ name }) => [name, checkpoint.readFloat32(name)]));
    const part = new TrainingModel(bareSource(runtime), config, new ModelWeights(store, rest));
    const [all, some] = [whole.store.buffer(), part.store.buffer()];
    await whole.lossAndGradients(batch, WEIGHTED_NLL, meanWeights(batch), all);
    await part.lossAndGradients(batch, WEIGHTED_NLL, meanWeights(batch), some);
    expect(some.length).toBeLessThan(all.length / 3);
    for (const { name } of trained) {
      expect(part.store.view(some, name).data, name).toEqual(whole.store.view(all, name).data);
    }
    expect(() => part.store.view(some, 'model.norm.weight')).toThrow('no weight named model.norm.weight is trained');
  });
});

describe('AdamW', () => {
  it('follows the recorded trajectory of eight updates', async () => {
    const { model, batch, dir, checkpoint } = loaded('tiny_tied');
    const recorded = JSON.parse(readFileSync(join(dir, 'adamw_trajectory.json'), 'utf8')) as {
      loss: number[];
      grad_norm_before_clip: number[];
      lr: number[];
    };
    const optimizer = await AdamW.create(bareSource(runtime), model.store, { weightDecay: 0.1 });
    const gradients = model.store.buffer();
    for (const [step, learningRate] of recorded.lr.entries()) {
      const { loss } = await model.lossAndGradients(batch, WEIGHTED_NLL, meanWeights(batch), gradients);
      expect(Math.abs(loss - recorded.loss[step]!) / recorded.loss[step]!).toBeLessThan(1e-4);
      const norm = await clipGlobalNorm(gradients, 1);
      expect(Math.abs(norm - recorded.grad_norm_before_clip[step]!) / norm).toBeLessThan(1e-3);
      await optimizer.step(gradients, learningRate);
    }
    const final = openSafetensors(join(dir, 'adamw_final.safetensors'));
    for (const { name } of checkpoint.parameters) {
      const stored = final.names.includes(name)
        ? name
        : name.replace(/^visual\./, 'model.visual.').replace(/^model\.(?!visual)/, 'model.language_model.');
      const want = final.readFloat32(stored).data;
      const got = model.store.tensor(name).data;
      let difference = 0;
      let norm = 0;
      want.forEach((value, i) => {
        difference += (got[i]! - value) ** 2;
        norm += value ** 2;
      });
      expect(Math.sqrt(difference / norm), name).toBeLessThan(1e-3);
    }
  });
});
