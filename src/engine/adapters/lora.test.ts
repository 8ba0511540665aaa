/** Against peft 0.21 over transformers 5.17 / torch 2.11 in float32 (test/fixtures/qwen2_5_vl/tiny_tied_lora). */
import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fixture } from '../../../test/helpers/fixtures.ts';
import { bareSource } from '../../../test/helpers/session-source.ts';
import { temporaryFolder } from '../../../test/helpers/temporary-folder.ts';

import type { Fr1Error } from '../../errors/fr1-error.ts';
import { PLAIN_SAMPLING } from '../generate/plain-sampling.ts';
import type { SamplingOptions } from '../generate/types.ts';
import { WEIGHTED_NLL } from '../loss/weighted-nll.ts';
import { buildBatch, type Row } from '../models/qwen2_5_vl/batch.ts';
import { createGenerator } from '../models/qwen2_5_vl/generator.ts';
import { adaptedWeights, wholeWeights } from '../models/qwen2_5_vl/open-training-model.ts';
import { compareWithExpected } from '../models/qwen2_5_vl/parity.ts';
import { TrainingModel } from '../models/qwen2_5_vl/training-model.ts';
import { RandomStream } from '../random.ts';
import { openRuntime } from '../session/open-runtime.ts';
import type { Runtime } from '../session/runtime.ts';
import { float32 } from '../tensor.ts';
import { openCheckpoint } from '../weights/checkpoint.ts';
import { openSafetensors, writeSafetensors } from '../weights/safetensors.ts';
import { type Adapter, startAdapter } from './lora.ts';
import { openModelFolder, saveAdapted } from './model-folder.ts';
import { readAdapter, writeAdapter } from './peft.ts';
import { linearModules, selectModules, spellTargets, type TargetModules } from './target-modules.ts';

const BASE = fixture('qwen2_5_vl', 'tiny_tied');
const ADAPTER = fixture('qwen2_5_vl', 'tiny_tied_lora');
const base = openCheckpoint(BASE);
const { config } = base;
const modules = linearModules(base.parameters);

let runtime: Runtime;
beforeAll(async () => {
  runtime = await openRuntime({ threads: 2 });
});
afterAll(() => runtime.close());

/** An adapter on every linear layer whose two matrices are both random, so that it changes what the model says. */
function randomAdapter(targets: TargetModules = 'all-linear', dropout = 0): Adapter {
  const settings = { rank: 3, alpha: 6, dropout, isRankStabilised: true };
  const adapter = startAdapter(selectModules(modules, targets), settings, 1);
  for (const { name } of modules) {
    const stream = new RandomStream(name);
    const b = adapter.find(`${name}.lora_B.weight`);
    if (b) for (let i = 0; i < b.data.length; i++) b.data[i] = 0.05 * stream.normal();
  }
  return adapter;
}

/** A row about an image with two answers. */
function batchOf() {
  const stream = new RandomStream('lora-test');
  const image = {
    grid: [1, 6, 4] as const,
    pixels: Float32Array.from({ length: 24 * 1176 }, () => stream.normal()),
  };
  const prefix = [5, config.visionStartTokenId, ...new Array<number>(6).fill(config.imageTokenId), 9, 10];
  const row: Row = { prefix, images: [0], branches: [{ ids: [1, 2, 3] }, { ids: [4, 50, 6, 7] }] };
  const weight = float32([7], new Float32Array(7).fill(1 / 7));
  return { batch: buildBatch(config, [row], [image]), prefix, image, inputs: { weight } };
}

describe('a model with an adapter', () => {
  it('has the logits, the loss and the gradients of PEFT', async () => {
    const { rows } = await compareWithExpected(bareSource(runtime), openModelFolder(BASE, ADAPTER), {
      inputs: join(BASE, 'expected.safetensors'),
      expected: join(ADAPTER, 'expected.safetensors'),
      gradients: join(ADAPTER, 'expected_grads.safetensors'),
    });
    expect(rows.map(({ name }) => name)).toEqual(expect.arrayContaining(['logits', 'loss']));
    expect(rows).toHaveLength(44);
    expect(rows.filter(({ within }) => !within)).toEqual([]);
    // The tolerances mean something: the base alone is far beyond them.
    const without = await compareWithExpected(bareSource(runtime), openModelFolder(BASE), {
      inputs: join(BASE, 'expected.safetensors'),
      expected: join(ADAPTER, 'expected.safetensors'),
    });
    expect(without.rows.find(({ name }) => name === 'logits')!.error).toBeGreaterThan(0.1);
  });

  it('trains the adapter alone', () => {
    const { trained } = adaptedWeights(base, randomAdapter());
    expect(trained.parameters).toHaveLength(2 * modules.length);
    expect(trained.flat.length).toBe(
      modules.reduce((sum, { inputSize, outputSize }) => sum + 3 * (inputSize + outputSize), 0),
    );
  });

  it('says the same whether the adapter is applied beside the weights or merged into them', async () => {
    const adapter = randomAdapter();
    const { batch, prefix, image } = batchOf();
    const all = { vision: true, projector: true, text: true };
    const [beside, merged, plain] = [
      adaptedWeights(base, adapter),
      wholeWeights(base, all, adapter),
      wholeWeights(base),
    ];
    const logProbs = (weights: typeof beside) =>
      new TrainingModel(bareSource(runtime), config, weights).logProbs(batch);
    const [want, got, without] = [await logProbs(beside), await logProbs(merged), await logProbs(plain)];
    const distance = (a: Float32Array, b: Float32Array) =>
      a.reduce((most, x, i) => Math.max(most, Math.abs(x - b[i]!)), 0);
    expect(distance(got, want)).toBeLessThan(1e-4);
    expect(distance(without, want)).toBeGreaterThan(1e-2);

    const greedy: SamplingOptions = { ...PLAIN_SAMPLING, maxNewTokens: 12, temperature: 0 };
    const requests = [{ inputIds: Int32Array.from(prefix), images: [image], seed: 1 }];
    const answers = async (weights: typeof beside) => {
      const completions = await createGenerator(bareSource(runtime), config, weights).generate(requests, greedy, {});
      return completions[0]![0]!.tokenIds;
    };
    const tokens = await answers(beside);
    expect(await answers(merged)).toEqual(tokens);
    expect(await answers(plain)).not.toEqual(tokens);
    // Teacher-forced by the training graph, every token of the generator is the likeliest.
    for (const k of [0, 5, 11]) {
      const rivals = Array.from({ length: config.text.vocabSize }, (_, id) => ({ ids: [...tokens.slice(0, k), id] }));
      const isTarget = [...tokens.slice(0, k).map(() => 0), 1];
      const branches = rivals.map(({ ids }) => ({ ids, isTarget }));
      const forced = buildBatch(config, [{ prefix, images: [0], branches }], [image]);
      const scores = await new TrainingModel(bareSource(runtime), config, beside).logProbs(forced);
      expect(scores.indexOf(scores.reduce((a, b) => Math.max(a, b)))).toBe(tokens[k]);
    }
  });
});

describe.each(['whole', 'layered'] as const)('dropout of a model that runs %s', (execution) => {
  const parts = () => {
    const model = new TrainingModel(
      bareSource(runtime),
      config,
      adaptedWeights(base, randomAdapter('all-linear', 0.4), execution),
      execution,
    );
    const { batch, inputs } = batchOf();
    const run = async (noise?: readonly (number | string)[]) => {
      const gradients = model.store.buffer();
      const { loss } = await model.lossAndGradients(batch, WEIGHTED_NLL, inputs, gradients, noise && { noise });
      return { loss, gradients };
    };
    return { model, batch, run };
  };

  it('repeats with the same keys, differs with others, and is off without', async () => {
    const { model, batch, run } = parts();
    const [first, again, other, off] = [await run([1, 2]), await run([1, 2]), await run([1, 3]), await run()];
    expect(again).toEqual(first);
    expect(other.loss).not.toBe(first.loss);
    const logProbs = await model.logProbs(batch);
    const mean = -logProbs.reduce((sum, x) => sum + x, 0) / logProbs.length;
    expect(Math.abs(off.loss - mean)).toBeLessThan(1e-5);
    expect(Math.abs(first.loss - mean)).toBeGreaterThan(1e-4);
  });

  it('has the gradient of the loss with the same elements dropped', async () => {
    const { model, run } = parts();
    const { gradients } = await run([7]);
    const stream = new RandomStream('direction');
    const direction = model.store.flat.map(() => stream.normal());
    const start = model.store.flat.slice();
    const at = async (step: number) => {
      model.store.flat.set(start.map((x, i) => x + step * direction[i]!));
      return (await run([7])).loss;
    };
    const step = 2e-3;
    const measured = ((await at(step)) - (await at(-step))) / (2 * step);
    const expected = gradients.reduce((sum, g, i) => sum + g * direction[i]!, 0);
    expect(Math.abs(measured - expected)).toBeLessThan(0.01 * Math.abs(expected));
  });
});

describe('PEFT format', () => {
  it.each(['current', 'legacy'] as const)('reads back what it writes, key names %s', async (layout) => {
    const adapter = randomAdapter(['q_proj', 'attn.qkv', 'mlp.2']);
    const dir = await temporaryFolder();
    await writeAdapter(dir, adapter, { base: base.parameters, baseName: 'somewhere', layout });
    const { names } = openSafetensors(join(dir, 'adapter_model.safetensors'));
    const prefix = `base_model.model.${layout === 'current' ? 'model.language_model' : 'model'}.layers.0.`;
    expect(names).toContain(`${prefix}self_attn.q_proj.lora_A.weight`);
    const read = readAdapter(dir, base.parameters);
    expect([...read.layers.keys()].sort()).toEqual([...adapter.layers.keys()].sort());
    for (const [name, { rank, scale }] of adapter.layers) {
      expect(read.layers.get(name)!.rank).toBe(rank);
      expect(read.layers.get(name)!.scale).toBeCloseTo(scale, 10);
      expect(read.find(`${name}.lora_B.weight`)).toEqual(adapter.find(`${name}.lora_B.weight`));
    }
  });

  it('keeps ranks and scales that differ from layer to layer', async () => {
    const dir = await temporaryFolder();
    cpSync(ADAPTER, dir, { recursive: true });
    const file = join(dir, 'adapter_config.json');
    const changed = {
      ...JSON.parse(readFileSync(file, 'utf8')),
      alpha_pattern: { 'layers\\.1\\.mlp\\.up_proj': 16, v_proj: 2 },
    };
    writeFileSync(file, JSON.stringify(changed));
    const scales = (adapter: Adapter) => {
      const of = (name: string) => adapter.layers.get(`model.layers.${name}`)!.scale;
      return [of('1.mlp.up_proj'), of('0.mlp.up_proj'), of('2.self_attn.v_proj')];
    };
    const read = readAdapter(dir, base.parameters);
    expect(scales(read)).toEqual([4, 2, 0.5]);
    const again = await temporaryFolder();
    await writeAdapter(again, read, { base: base.parameters, baseName: 'x' });
    expect(scales(readAdapter(again, base.parameters))).toEqual([4, 2, 0.5]);
  });

  it.each([
    [{ peft_type: 'IA3' }, 'ADAPTER_UNREADABLE', 'peft_type is "IA3"'],
    [{ use_dora: true }, 'ADAPTER_UNREADABLE', 'use_dora is true'],
    [{ modules_to_save: ['lm_head'] }, 'ADAPTER_UNREADABLE', 'modules_to_save is ["lm_head"]'],
    [{ init_lora_weights: 'pissa_niter_16' }, 'ADAPTER_UNREADABLE', 'init_lora_weights is "pissa_niter_16"'],
    [{ lora_alpha: 'much' }, 'ADAPTER_UNREADABLE', 'lora_alpha is "much", not a number'],
    [{ alpha_pattern: { '(': 1 } }, 'ADAPTER_UNREADABLE', '"(" is no regular expression'],
  ])('refuses %j', async (change, code, message) => {
    const dir = await temporaryFolder();
    cpSync(ADAPTER, dir, { recursive: true });
    const file = join(dir, 'adapter_config.json');
    writeFileSync(file, JSON.stringify({ ...JSON.parse(readFileSync(file, 'utf8')), ...change }));
    expect(() => readAdapter(dir, base.parameters)).toThrow(expect.objectContaining({ code }) as Fr1Error);
    expect(() => readAdapter(dir, base.parameters)).toThrow(message);
  });

  it.each([
    'base_model.model.lm_head.lora_A.weight',
    'base_model.model.model.visual.patch_embed.proj.lora_B.weight',
    'base_model.model.model.language_model.embed_tokens.lora_embedding_A',
    'base_model.model.lm_head.base_layer.weight',
  ])('refuses %s, of a layer that gets no adapter here', async (name) => {
    const dir = await temporaryFolder();
    cpSync(ADAPTER, dir, { recursive: true });
    const tensor = float32([2, 2]);
    await writeSafetensors(join(dir, 'adapter_model.safetensors'), [{ name, shape: [2, 2], load: () => tensor }]);
    expect(() => readAdapter(dir, base.parameters)).toThrow(
      expect.objectContaining({ code: 'ADAPTER_UNREADABLE', hint: expect.stringContaining('merge_and_unload') }),
    );
  });

  it('tells where in adapter_config.json the setting stands that it refuses', async () => {
    const dir = await temporaryFolder();
    cpSync(ADAPTER, dir, { recursive: true });
    const file = join(dir, 'adapter_config.json');
    writeFileSync(file, '{\n  "peft_type": "LORA",\n  "r": 4, "use_dora": true\n}\n');
    expect(() => readAdapter(dir, base.parameters)).toThrow(
      expect.objectContaining({ at: expect.objectContaining({ file, line: 3, col: 11 }) }),
    );
  });

  it('names the layers that a base of another size lacks', async () => {
    const narrow = base.parameters.map((parameter) =>
      parameter.name === 'model.layers.1.mlp.up_proj.weight' ? { ...parameter, shape: [100, 64] } : parameter,
    );
    expect(() => readAdapter(ADAPTER, narrow)).toThrow('model.layers.1.mlp.up_proj: A [4,64] and B [128,4] do not fit');
    const shallow = base.parameters.filter(({ name }) => !name.startsWith('model.layers.2.'));
    expect(() => readAdapter(ADAPTER, shallow)).toThrow(
      'model.layers.2.self_attn.q_proj is no linear layer of the base',
    );
  });
});

describe('a folder of adapter and base', () => {
  it('is opened as it was saved, and needs its base', async () => {
    const adapter = randomAdapter();
    const dir = await temporaryFolder();
    await saveAdapted(dir, base, adapter, {});
    const opened = openModelFolder(dir);
    expect(opened.base.readFloat32('model.norm.weight')).toEqual(base.readFloat32('model.norm.weight'));
    const name = 'visual.blocks.0.attn.qkv.lora_A.weight';
    expect(opened.adapter!.find(name)).toEqual(adapter.find(name));
    expect(() => openModelFolder(ADAPTER)).toThrow('holds an adapter, but not its base in base/');
  });
});

describe('selectModules()', () => {
  const leaves = (targets: TargetModules) => selectModules(modules, targets).map(({ name }) => name);

  it('reads names, ends of names and expressions over whole names, in both spellings', () => {
    expect(leaves(['layers.1.mlp.up_proj'])).toEqual(['model.layers.1.mlp.up_proj']);
    expect(leaves(['model.language_model.layers.1.mlp.up_proj'])).toEqual(['model.layers.1.mlp.up_proj']);
    expect(leaves(['up_proj']).length).toBe(config.text.numHiddenLayers + config.vision.depth);
    expect(leaves('.*language_model.*\\.up_proj').length).toBe(config.text.numHiddenLayers);
    expect(leaves('visual\\.merger.*')).toEqual(['visual.merger.mlp.0', 'visual.merger.mlp.2']);
    expect(leaves('all-linear')).toHaveLength(modules.length);
    expect(modules.map(({ name }) => name)).not.toContain('visual.patch_embed.proj');
  });

  it('refuses what matches nothing, and what is no expression', () => {
    expect(() => leaves(['q_proj', 'c_attn'])).toThrow('is called "c_attn"; they are attn.proj, down_proj');
    expect(() => leaves('up_pro')).toThrow('is called "up_pro"');
    expect(() => leaves('(')).toThrow('is no regular expression');
  });

  it.each([
    [
      'all-linear',
      [
        'attn.proj',
        'down_proj',
        'gate_proj',
        'k_proj',
        'mlp.0',
        'mlp.2',
        'o_proj',
        'q_proj',
        'qkv',
        'up_proj',
        'v_proj',
      ],
    ],
    ['.*language_model.*\\.(up_proj|q_proj)', '^(?!.*visual).*\\.(?:q_proj|up_proj)$'],
    [
      ['layers.0.mlp.up_proj', 'mlp.0'],
      ['merger.mlp.0', 'layers.0.mlp.up_proj'],
    ],
  ] as const)('spells %j so that PEFT means the same layers', (targets, spelled) => {
    const chosen = selectModules(modules, targets as TargetModules);
    const spelling = spellTargets(chosen, modules);
    expect(spelling).toEqual(spelled);
    expect(selectModules(modules, spelling)).toEqual(chosen);
  });
});
