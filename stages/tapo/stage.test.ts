/** The stage on a tiny model that first learns the form of an answer, but only guesses which colour is right. */
import { writeFileSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { writeDataset, writeSftData } from '../../src/artifacts/rows.ts';
import type { SftRow, TripletRow } from '../../src/artifacts/types.ts';
import { openModelFolder } from '../../src/engine/adapters/model-folder.ts';
import { openRuntime } from '../../src/engine/session/open-runtime.ts';
import type { Runtime } from '../../src/engine/session/runtime.ts';
import { openCheckpoint } from '../../src/engine/weights/checkpoint.ts';
import { temporaryFolder } from '../../test/helpers/temporary-folder.ts';
import { sftStage } from '../sft/stage.ts';
import { type FakeContextSettings, fakeArtifact, fakeContext } from '../testing/fake-context.ts';
import { leaseOf, writeRectangle, writeSquare, writeTinyModel } from '../testing/tiny-model.ts';
import type { TapoOptions } from './options.ts';
import { tapoStage } from './stage.ts';

const COLOURS = { red: [230, 20, 20], blue: [20, 20, 230] } as const;
const NAMES = Object.keys(COLOURS);
const QUESTION = 'Which?';

let runtime: Runtime;
let folder: string;
const modelFolder = () => path.join(folder, 'guesser');
const dataFolder = () => path.join(folder, 'triplets');

beforeAll(async () => {
  runtime = await openRuntime({ threads: 2 });
  folder = await mkdtemp(path.join(tmpdir(), 'fr1-tapo-'));
  await makeTriplets(dataFolder());
  await makeGuesser(modelFolder());
});
afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
  await runtime.close();
});

type Size = readonly [width: number, height: number];

/** Rows of both colours whose positive images differ from the others in size. */
async function makeTriplets(target: string, size: Size = [56, 56], positiveSize: Size = [84, 84]): Promise<void> {
  const rows: TripletRow[] = [];
  for (const [name, colour] of Object.entries(COLOURS)) {
    await writeRectangle(path.join(target, `images/${name}.png`), colour, ...size);
    await writeRectangle(path.join(target, `images/${name}-wide.png`), colour, ...positiveSize);
  }
  for (const [i, name] of [...NAMES, ...NAMES].entries()) {
    const other = NAMES.find((one) => one !== name)!;
    rows.push({
      id: `r${i}`,
      anchor: `images/${name}.png`,
      positive: `images/${name}-wide.png`,
      negative: `images/${other}.png`,
      question: QUESTION,
      label: name,
      negativeLabel: other,
    });
  }
  await writeDataset(target, { name: 'squares', superCategory: 'colour', split: 'train', classes: NAMES }, rows);
}

/** Fine-tuned on every colour as the answer to every image. */
async function makeGuesser(target: string): Promise<void> {
  const base = path.join(folder, 'base');
  const data = path.join(folder, 'chats');
  await writeTinyModel(runtime, base);
  const chats: SftRow[] = [];
  for (const [shown, colour] of Object.entries(COLOURS)) {
    await writeSquare(path.join(data, `images/${shown}.png`), colour);
    for (const said of NAMES) {
      chats.push({
        messages: [
          { role: 'user', content: `<image>${QUESTION}` },
          { role: 'assistant', content: `<think></think><answer>${said}</answer>` },
        ],
        images: [`images/${shown}.png`],
      });
    }
  }
  await writeSftData(data, chats);
  using context = fakeContext(
    sftStage,
    {
      model: fakeArtifact('checkpoint', base),
      data: fakeArtifact('sft-data', data),
      steps: 70,
      batchSize: 4,
      microBatchSize: 4,
      learningRate: 5e-3,
      weightDecay: 0,
    },
    { lease: leaseOf(runtime) },
  );
  await sftStage.run({ ...context, lease: leaseOf(runtime), outputs: { model: target } });
}

async function train(options: Partial<TapoOptions> = {}, settings: FakeContextSettings = {}) {
  using context = fakeContext(
    tapoStage,
    {
      model: fakeArtifact('checkpoint', modelFolder()),
      data: fakeArtifact('triplet-data', dataFolder()),
      steps: 2,
      groupsPerStep: 3,
      rollouts: 3,
      maxDraws: 4,
      maxNewTokens: 40,
      learningRate: 1e-3,
      prompt: 'compact',
      ...options,
    },
    { lease: leaseOf(runtime), ...settings },
  );
  const { metrics } = await tapoStage.run(context);
  const output = context.outputs['model']!;
  return {
    metrics: metrics!,
    curve: [...context.curve],
    messages: [...context.messages],
    warnings: [...context.warnings],
    notes: context.progressed.map(({ note }) => note),
    bytes: await readFile(path.join(output, options.adapter ? 'adapter_model.safetensors' : 'model.safetensors')),
    vision: openModelFolder(output).base.readFloat32('visual.blocks.0.attn.qkv.weight').data.slice(),
    samples: (await readFile(path.join(context.outputs['samples']!, 'rollouts.jsonl'), 'utf8'))
      .split('\n')
      .filter(Boolean),
  };
}

describe('tapo', () => {
  it('trains a model that guesses to look', async () => {
    const { metrics, curve, notes, samples, messages } = await train({
      steps: 30,
      groupsPerStep: 4,
      rollouts: 6,
      maxDraws: 2,
      learningRate: 1e-3,
    });
    expect(curve[0]!.values['accuracy']).toBeLessThan(0.6);
    expect(metrics['accuracy']!.value).toBeGreaterThan(0.75);
    expect(metrics['reward']!.value).toBeGreaterThan(metrics['firstReward']!.value + 0.2);
    expect(notes).toContainEqual(expect.stringMatching(/^reward 0\.\d{3} {2}accuracy 0\.\d{3}$/));
    // 30 steps, the first two groups of each, six answers on each of two images.
    expect(samples).toHaveLength(30 * 2 * 12);
    const first = JSON.parse(samples[0]!) as Record<string, unknown>;
    expect(first).toMatchObject({ step: 1, view: 'anchor', format: 1 });
    expect(messages.join('\n')).toContain('negativeKl 0.01, ownEntropy 0.03');
  });

  it.each([
    ['all weights', {}],
    ['an adapter', { adapter: { kind: 'lora', rank: 4, dropout: 0.1 } }],
  ] as const)('gives the same bytes after an abort and a resume, training %s', async (_, changes) => {
    const whole = await train({ steps: 3, saveEvery: 1, ...changes });
    const state = await temporaryFolder();
    const abort = new AbortController();
    const signal = abort.signal;
    const stopping = fakeContext(tapoStage, {}, { state, signal, lease: leaseOf(runtime) });
    const options = {
      model: fakeArtifact('checkpoint', modelFolder()),
      data: fakeArtifact('triplet-data', dataFolder()),
      steps: 3,
      groupsPerStep: 3,
      rollouts: 3,
      maxDraws: 4,
      maxNewTokens: 40,
      learningRate: 1e-3,
      prompt: 'compact',
      saveEvery: 1,
      ...changes,
    } as const;
    const cut = tapoStage.run({
      ...stopping,
      options: { ...stopping.options, ...options },
      lease: leaseOf(runtime),
      metric: (step) => {
        if (step === 2) abort.abort(new Error('stopped'));
      },
    });
    await expect(cut).rejects.toThrow('stopped');
    stopping[Symbol.dispose]();
    const rest = await train({ steps: 3, saveEvery: 1, ...changes }, { state });
    expect(rest.messages).toContain('continuing after 2 of 3 steps');
    expect(rest.bytes.equals(whole.bytes)).toBe(true);
    expect(rest.metrics).toEqual(whole.metrics);
  });

  it('changes its result with every switch', async () => {
    const changes: Readonly<Record<string, Partial<TapoOptions>>> = {
      nothing: {},
      'no divergence': { negativeKl: 0 },
      'no entropy': { ownEntropy: null },
      'no positive': { views: { positive: 'none', negative: 'other-class' } },
      'no negative': { views: { positive: 'same-class', negative: 'none' }, ownEntropy: 0.02 },
      'another prompt': { prompt: 'fine-r1', whenNoneInformative: 'keep-all' },
      'another reward': { reward: { formatWeight: 0.9 } },
      'two updates': { updatesPerStep: 2 },
      'shared noise': { rolloutSeeds: 'shared', rollouts: 6 },
      'no first step': { firstStepLearningRate: 'zero' },
      'a mean of means': { lossNormalisation: 'micro' },
      'means of two answers': { lossNormalisation: 'micro', answersPerMean: 2 },
      'training through the negative image': { negativeGradient: true },
      'a mask of tokens': { negativeKl: { coefficient: 0.01, estimator: 'k3', topShare: 0.3, fadeShare: 1 } },
      'two passes': { passes: 2 },
      'another temperature': { temperature: 0.8 },
      'the likeliest tokens': { topK: 20 },
      'answers trained on the anchor': { positiveConditioning: 'anchor' },
      'a noisy positive': { views: { positive: 'noise' } },
      'a masked negative': { views: { negative: 'masked' } },
      'leave-one-out': { advantages: 'leave-one-out' },
      'reinforce++': { advantages: 'reinforce++' },
      'another filter': { filter: { above: 0.2, below: 0.45 } },
      'a mean per answer': { lossAveraging: 'sequence' },
      'a divergence from the first policy': { referenceKl: 0.2, updatesPerStep: 2 },
      imitation: { imitation: { coefficient: 0.1, accuracyAbove: 0.1 } },
      'another estimator': { negativeKl: { coefficient: 0.01, estimator: 'k2', fadeShare: 1 } },
      'a clipped divergence': { negativeKl: { coefficient: 0.01, estimator: 'k3', clip: 0.001, fadeShare: 1 } },
      'a fading divergence': { negativeKl: { coefficient: 0.01, estimator: 'k3', fadeTo: 0, fadeShare: 0.5 } },
      'the preset grpo': { preset: 'grpo' },
      'the preset dapo': { preset: 'dapo' },
      'the preset papo': { preset: 'papo' },
      'the preset noisy-rollout': { preset: 'noisy-rollout' },
      'halved groups': { views: { positive: 'none' }, groupsWithoutPositive: 'halved' },
      'a wider clip': { updatesPerStep: 2, clipHigh: 1, learningRate: 3e-3 },
    };
    const seen = new Map<string, string>();
    for (const [name, change] of Object.entries(changes)) {
      const { bytes } = await train(change);
      const key = bytes.toString('base64');
      expect(seen.get(key), `${name} changes nothing`).toBeUndefined();
      seen.set(key, name);
    }
  }, 600_000);

  it('leaves the terms of an absent negative image out', async () => {
    const none = { positive: 'same-class', negative: 'none' } as const;
    const without = await train({ views: none });
    const zero = await train({ negativeKl: null });
    expect(without.bytes.equals(zero.bytes)).toBe(true);
    expect(without.curve[0]!.values).not.toHaveProperty('negativeKl');
    expect(without.messages.join('\n')).not.toContain('negativeKl');
  });

  it('leaves frozen towers as they are', async () => {
    const start = openCheckpoint(modelFolder()).readFloat32('visual.blocks.0.attn.qkv.weight').data;
    const frozen = await train({ trainable: { vision: false, projector: false, text: true } });
    expect(frozen.vision).toEqual(start);
    expect((await train()).vision).not.toEqual(start);
  });

  it('tells the switches of the set that it follows', async () => {
    const { messages } = await train({ steps: 1, set: 'reference', lossNormalisation: 'step', viewLayout: 'own' });
    expect(messages.join('\n')).toContain(
      'switches: firstStepLearningRate zero, lossNormalisation step, rewardRule containment, rolloutSeeds shared, viewLayout own, whenNoneInformative keep-all',
    );
  });

  it('Q22: halves groups in the whole training without a positive image where the released code does', async () => {
    const alone = { steps: 1, groupsPerStep: 2, rollouts: 3, views: { positive: 'none' }, filter: null } as const;
    const groupsOf = async (options: Partial<TapoOptions>) => {
      const { messages, curve, samples } = await train({ ...alone, sampleGroups: 9, ...options });
      const groups = curve[0]!.values['keptGroups']!;
      return { groups, answers: samples.length / groups, said: messages[0]! };
    };
    const sound = await groupsOf({});
    const reference = await groupsOf({ set: 'reference', viewLayout: 'own' });
    expect(sound).toMatchObject({ groups: 2, answers: 6, said: expect.stringContaining('2 groups of 6 answers') });
    expect(reference).toMatchObject({ groups: 4, answers: 3, said: expect.stringContaining('4 groups of 3 answers') });
  });

  it('Q23: reads each image in its own layout, or in that of the anchor as the released code, if it has as many tokens', async () => {
    const turned = await temporaryFolder();
    await makeTriplets(turned, [56, 112], [112, 56]);
    const one = { data: fakeArtifact('triplet-data', turned), steps: 1, filter: null } as const;
    const own = await train(one);
    const anchor = await train({ ...one, viewLayout: 'anchor' });
    expect(anchor.samples).toEqual(own.samples);
    expect(anchor.bytes.equals(own.bytes)).toBe(false);
    // The common data has positive images of 84 x 84 pixels to anchors of 56 x 56.
    await expect(train({ set: 'reference' })).rejects.toMatchObject({
      code: 'DATA_ROW_INVALID',
      message: expect.stringMatching(
        /rows\.jsonl: row "r0": the positive image has 6 x 6 patches and the anchor 4 x 4; with viewLayout anchor .*; 4 of 4 rows are so$/,
      ),
    });
    await expect(train({ steps: 1 })).resolves.toBeDefined();
  });

  it('records the switches that the training reads', () => {
    const record = (options: Partial<TapoOptions>) => {
      using context = fakeContext(tapoStage, { steps: 1, ...options });
      return Object.keys(tapoStage.switches!(context.options));
    };
    expect(record({})).toContain('viewLayout');
    expect(record({})).not.toContain('groupsWithoutPositive');
    expect(record({ preset: 'papo' })).toContain('groupsWithoutPositive');
    expect(record({ preset: 'papo' })).not.toContain('viewLayout');
    expect(record({ preset: 'noisy-rollout' })).not.toContain('viewLayout');
  });

  it('names row and file of a broken image', async () => {
    const broken = await temporaryFolder();
    await makeTriplets(broken);
    writeFileSync(path.join(broken, 'images/blue-wide.png'), 'no picture');
    await expect(train({ data: fakeArtifact('triplet-data', broken) })).rejects.toMatchObject({
      code: 'IMAGE_UNREADABLE',
      message: expect.stringMatching(/rows\.jsonl: row "r\d": .*blue-wide\.png/),
    });
  });

  it('rejects options that contradict each other', () => {
    const check = (options: Partial<TapoOptions>) => {
      using context = fakeContext(tapoStage, { steps: 1, ...options });
      return tapoStage.validate!(context.options).map(({ pointer }) => pointer);
    };
    expect(check({})).toEqual([]);
    expect(check({ groupSize: 4 })).toEqual(['/groupSize']);
    expect(check({ groupSize: 4, views: { positive: 'none', negative: 'none' } })).toEqual([]);
    expect(check({ trainable: { vision: false, projector: false, text: false } })).toEqual(['/trainable']);
    expect(check({ minPixels: 9, maxPixels: 8 })).toEqual(['/minPixels']);
    expect(check({ preset: 'fine-r1-3b', maxPixels: 8 })).toEqual(['/maxPixels']);
    expect(check({ negativeGradient: true })).toEqual([]);
    expect(check({ negativeGradient: true, views: { negative: 'none' } })).toEqual(['/negativeGradient']);
    expect(check({ negativeGradient: true, preset: 'dapo' })).toEqual(['/negativeGradient']);
    const halved = { preset: 'dapo', groupsWithoutPositive: 'halved' } as const;
    expect(check(halved)).toEqual([]);
    expect(check({ ...halved, groupSize: 4 })).toEqual(['/groupSize']);
    expect(check({ ...halved, rollouts: 1 })).toEqual(['/rollouts']);
    expect(check({ groupsWithoutPositive: 'halved' })).toEqual(['/groupsWithoutPositive']);
    expect(check({ viewLayout: 'anchor' })).toEqual([]);
    expect(check({ viewLayout: 'anchor', preset: 'papo' })).toEqual(['/viewLayout']);
  });

  it('Q30: rejects options about a view that takes no part', () => {
    const check = (options: Partial<TapoOptions>) => {
      using context = fakeContext(tapoStage, { steps: 1, ...options });
      return tapoStage.validate!(context.options).map(({ pointer }) => pointer);
    };
    expect(check({ preset: 'dapo', negativeKl: 0.01, negativeEntropy: 0.03, positiveConditioning: 'own' })).toEqual([
      ...['/negativeKl', '/negativeEntropy', '/positiveConditioning'],
    ]);
    expect(check({ preset: 'dapo', negativeKl: 0, negativeEntropy: null })).toEqual([]);
    expect(check({ views: { maskedShare: 0.5, noise: { strength: 9 } } })).toEqual([
      '/views/maskedShare',
      '/views/noise',
    ]);
    expect(check({ preset: 'papo', views: { maskedShare: 0.5 } })).toEqual([]);
    const reward = { formatWeight: 0.1, function: fakeArtifact('files', 'reward.mjs') };
    expect(check({ rewardRule: 'exact', reward })).toEqual(['/rewardRule']);
  });
});
