import { writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { writeSftData } from '../../src/artifacts/rows.ts';
import type { SftRow } from '../../src/artifacts/types.ts';
import { openModelFolder } from '../../src/engine/adapters/model-folder.ts';
import { openRuntime } from '../../src/engine/session/open-runtime.ts';
import type { Runtime } from '../../src/engine/session/runtime.ts';
import { openCheckpoint } from '../../src/engine/weights/checkpoint.ts';
import { temporaryFolder } from '../../test/helpers/temporary-folder.ts';
import { type FakeContextSettings, fakeArtifact, fakeContext } from '../testing/fake-context.ts';
import { leaseOf, writeSquare, writeTinyModel } from '../testing/tiny-model.ts';
import { microBatchesOf } from './examples.ts';
import type { SftOptions } from './options.ts';
import { sftStage } from './stage.ts';

let runtime: Runtime;
beforeAll(async () => {
  runtime = await openRuntime({ threads: 1 });
});
afterAll(() => runtime.close());

const COLOURS = { red: [230, 20, 20], green: [20, 230, 20], blue: [20, 20, 230] } as const;

function chat(colour: string, question: string): SftRow {
  return {
    messages: [
      { role: 'user', content: `<image>${question}` },
      { role: 'assistant', content: `<think>It is ${colour}.</think><answer>${colour}</answer>` },
    ],
    images: [`images/${colour}.png`],
  };
}

/** A model folder, and six chats about three squares. */
async function makeInputs(rows?: readonly SftRow[]) {
  const folder = await temporaryFolder();
  const model = path.join(folder, 'model');
  const data = path.join(folder, 'data');
  await writeTinyModel(runtime, model);
  for (const [name, colour] of Object.entries(COLOURS))
    await writeSquare(path.join(data, `images/${name}.png`), colour);
  const all = Object.keys(COLOURS).flatMap((colour) => [chat(colour, 'Which colour?'), chat(colour, 'Name it.')]);
  await writeSftData(data, rows ?? all);
  return { folder, model: fakeArtifact('checkpoint', model), data: fakeArtifact('sft-data', data) };
}

type Inputs = Awaited<ReturnType<typeof makeInputs>>;

async function train({ model, data }: Inputs, options: Partial<SftOptions> = {}, settings: FakeContextSettings = {}) {
  using context = fakeContext(
    sftStage,
    { model, data, epochs: 4, batchSize: 4, microBatchSize: 2, learningRate: 3e-3, weightDecay: 0.01, ...options },
    { lease: leaseOf(runtime), ...settings },
  );
  const { metrics } = await sftStage.run(context);
  const folder = context.outputs['model']!;
  return {
    losses: context.curve.map(({ values }) => values['loss']!),
    steps: context.curve.map(({ step }) => step),
    validation: context.curve.flatMap(({ values }) => values['validationLoss'] ?? []),
    metrics: metrics!,
    warnings: [...context.warnings],
    weights: await readFile(path.join(folder, 'model.safetensors')),
    tensor: openCheckpoint(folder).readFloat32('model.layers.0.mlp.up_proj.weight').data.slice(),
    vision: openCheckpoint(folder).readFloat32('visual.blocks.0.attn.qkv.weight').data.slice(),
  };
}

describe('sft', () => {
  it('lowers the loss as recorded, whatever the micro-batches', async () => {
    const inputs = await makeInputs();
    const recorded = await train(inputs);
    expect(recorded.losses).toHaveLength(RECORDED.length);
    recorded.losses.forEach((loss, i) => {
      expect(Math.abs(loss - RECORDED[i]!), `update ${i + 1}`).toBeLessThan(2e-3);
    });
    for (const microBatchSize of [1, 3, 4]) {
      const { losses } = await train(inputs, { microBatchSize });
      losses.forEach((loss, i) => {
        expect(Math.abs(loss - recorded.losses[i]!) / loss, `update ${i + 1}`).toBeLessThan(1e-5);
      });
    }
    expect(recorded.metrics['finalLoss']!.value).toBe(recorded.losses.at(-1));
    expect(recorded.metrics['steps']!.value).toBe(8);
  });

  it('gives the same bytes after an abort and a resume', async () => {
    const inputs = await makeInputs();
    const whole = await train(inputs, { saveEvery: 3 });
    const state = await temporaryFolder();
    const abort = new AbortController();
    using context = fakeContext(
      sftStage,
      {
        model: inputs.model,
        data: inputs.data,
        epochs: 4,
        batchSize: 4,
        microBatchSize: 2,
        learningRate: 3e-3,
        weightDecay: 0.01,
        saveEvery: 3,
      },
      { lease: leaseOf(runtime), state, signal: abort.signal },
    );
    const cut = sftStage.run({
      ...context,
      lease: leaseOf(runtime),
      metric: (step) => {
        if (step === 5) abort.abort(new Error('stopped'));
      },
    });
    await expect(cut).rejects.toThrow('stopped');
    const rest = await train(inputs, { saveEvery: 3 }, { state });
    expect(rest.steps).toEqual([4, 5, 6, 7, 8]);
    expect(rest.losses).toEqual(whole.losses.slice(3));
    expect(rest.metrics).toEqual(whole.metrics);
    expect(rest.weights.equals(whole.weights)).toBe(true);
  });

  it('leaves frozen towers as they are and trains the others', async () => {
    const inputs = await makeInputs();
    const before = openCheckpoint(inputs.model.path);
    const start = before.readFloat32('visual.blocks.0.attn.qkv.weight').data;
    const frozen = await train(inputs, { epochs: 1 });
    const all = await train(inputs, { epochs: 1, trainable: { vision: true, projector: true, text: true } });
    expect(frozen.vision).toEqual(start);
    expect(frozen.tensor).not.toEqual(before.readFloat32('model.layers.0.mlp.up_proj.weight').data);
    expect(all.vision).not.toEqual(start);
  });

  describe('with an adapter', () => {
    const LORA: SftOptions['adapter'] = {
      kind: 'lora',
      rank: 4,
      dropout: 0.2,
      targetModules: ['q_proj', 'v_proj', 'down_proj'],
    };

    /** Trains and keeps the output folder, which later stages read. */
    async function adapt(inputs: Inputs, options: Partial<SftOptions>, settings: FakeContextSettings = {}) {
      const output = await temporaryFolder();
      using context = fakeContext(
        sftStage,
        {
          model: inputs.model,
          data: inputs.data,
          steps: 8,
          batchSize: 4,
          learningRate: 2e-2,
          ...options,
        },
        { lease: leaseOf(runtime), ...settings },
      );
      await sftStage.run({ ...context, lease: leaseOf(runtime), outputs: { model: output } });
      return {
        output,
        losses: context.curve.map(({ values }) => values['loss']!),
        adapter: await readFile(path.join(output, 'adapter_model.safetensors')).catch(() => null),
      };
    }

    it('trains it alone, beside the base as it was, and goes on where it was cut off', async () => {
      const inputs = await makeInputs();
      const whole = await adapt(inputs, { adapter: LORA, saveEvery: 3 });
      expect(whole.losses.at(-1)!).toBeLessThan(whole.losses[0]! - 0.3);
      const weights = (folder: string) => readFile(path.join(folder, 'model.safetensors'));
      expect((await weights(path.join(whole.output, 'base'))).equals(await weights(inputs.model.path))).toBe(true);
      const { layers } = openModelFolder(whole.output).adapter!;
      expect([...layers.keys()].filter((name) => name.startsWith('visual.'))).toEqual([]);
      expect(layers.get('model.layers.0.self_attn.q_proj')).toEqual({ rank: 4, scale: 2, dropout: 0.2 });

      const state = await temporaryFolder();
      const abort = new AbortController();
      const options = { adapter: LORA, saveEvery: 3, steps: 8, batchSize: 4, learningRate: 2e-2 };
      using context = fakeContext(sftStage, { model: inputs.model, data: inputs.data, ...options } as SftOptions, {
        lease: leaseOf(runtime),
        state,
        signal: abort.signal,
      });
      const stopAtFive = (step: number) => {
        if (step === 5) abort.abort(new Error('stopped'));
      };
      await expect(sftStage.run({ ...context, lease: leaseOf(runtime), metric: stopAtFive })).rejects.toThrow(
        'stopped',
      );
      const rest = await adapt(inputs, { adapter: LORA, saveEvery: 3 }, { state });
      expect(rest.losses).toEqual(whole.losses.slice(3));
      expect(rest.adapter!.equals(whole.adapter!)).toBe(true);
    });

    it('goes on with an adapter, or with all weights after merging it', async () => {
      const inputs = await makeInputs();
      const first = await adapt(inputs, { adapter: LORA });
      const model = fakeArtifact('checkpoint', first.output);
      const next = { ...inputs, model };
      const continued = await adapt(next, { adapter: { kind: 'continue' }, steps: 2 });
      expect(continued.losses[0]!).toBeLessThan(first.losses[0]! - 0.3);
      expect(continued.adapter).not.toEqual(first.adapter);
      const full = await adapt(next, { steps: 2, learningRate: 1e-3 });
      expect(full.adapter).toBeNull();
      expect(full.losses[0]!).toBeLessThan(first.losses[0]! - 0.3);
      await expect(adapt(next, { adapter: LORA })).rejects.toMatchObject({
        code: 'ADAPTER_UNREADABLE',
        message: expect.stringContaining('has an adapter already'),
      });
      await expect(adapt(inputs, { adapter: { kind: 'continue' } })).rejects.toMatchObject({
        code: 'ADAPTER_UNREADABLE',
      });
    });

    it('takes settings of an adapter only for a new one', () => {
      using context = fakeContext(sftStage, { steps: 1, adapter: { kind: 'full', rank: 4, dropout: 0 } });
      const problems = sftStage.validate!(context.options);
      expect(problems.map(({ pointer }) => pointer)).toEqual(['/adapter/rank', '/adapter/dropout']);
    });
  });

  it('Q17: weighs tokens equally, or micro-batches as the released code', async () => {
    const short = chat('red', 'Which colour?');
    const long = chat('blue', 'Which colour?');
    const said = `<think>${'It looks blue to me. '.repeat(4)}</think><answer>blue</answer>`;
    const rows = [short, { ...long, messages: [long.messages[0]!, { role: 'assistant' as const, content: said }] }];
    const inputs = await makeInputs(rows);
    const firstLoss = async (data: Inputs['data'], lossNormalisation: 'step' | 'micro') => {
      const one = { epochs: 1, batchSize: 2, microBatchSize: 1, lossNormalisation };
      return (await train({ ...inputs, data }, one)).losses[0]!;
    };
    const [a, b] = await Promise.all(rows.map(async (row) => firstLoss((await makeInputs([row])).data, 'step')));
    expect(await firstLoss(inputs.data, 'micro')).toBeCloseTo((a! + b!) / 2, 5);
    const step = await firstLoss(inputs.data, 'step');
    const shareOfShort = (step - b!) / (a! - b!);
    expect(shareOfShort).toBeGreaterThan(0.1);
    expect(shareOfShort).toBeLessThan(0.4);
  });

  it('measures held-out chats and keeps the best weights where asked', async () => {
    const inputs = await makeInputs();
    // Held-out answers of another form become less likely as the form is learnt.
    const wrong = (['red', 'green', 'blue'] as const).map((colour) => ({
      ...chat(colour, 'Which colour?'),
      messages: [chat(colour, 'Which colour?').messages[0]!, { role: 'assistant' as const, content: 'Who knows?' }],
    }));
    const heldOut = await makeInputs(wrong);
    const settings = { validation: heldOut.data, validateEvery: 1, epochs: 6, learningRate: 0.01 };
    const last = await train(inputs, settings);
    const best = await train(inputs, { ...settings, keep: 'best' });
    expect(best.losses).toEqual(last.losses);
    const lowest = Math.min(...best.validation);
    expect(best.validation).toHaveLength(12);
    expect(best.validation.at(-1)).toBeGreaterThan(lowest);
    expect(best.metrics['validationLoss']!.value).toBe(lowest);
    expect(last.metrics['validationLoss']!.value).toBe(last.validation.at(-1));
    expect(best.weights.equals(last.weights)).toBe(false);
  });

  it('Q28: keeps the best or the last weights, where the released code marks its first save as best for ever', async () => {
    /** Place of the save that stays marked: a greater score takes the mark over, but without validation every score is 0. */
    const released = (saves: number) => {
      let marked = { place: -1, score: -1 };
      for (let place = 0; place < saves; place++) if (0 > marked.score) marked = { place, score: 0 };
      return marked.place;
    };
    const inputs = await makeInputs();
    const settings = { validation: inputs.data, validateEvery: 1, epochs: 4 };
    const best = await train(inputs, { ...settings, keep: 'best' });
    const last = await train(inputs, settings);
    const losses = best.validation;
    expect(released(losses.length)).toBe(0);
    expect(best.metrics['validationLoss']!.value).toBe(Math.min(...losses));
    expect(best.metrics['validationLoss']!.value).toBeLessThan(losses[released(losses.length)]! - 1);
    expect(last.metrics['validationLoss']!.value).toBe(losses.at(-1));
    // The first save is the model after one update.
    const first = await train(inputs, { steps: 1, epochs: undefined });
    for (const { weights } of [best, last]) expect(weights.equals(first.weights)).toBe(false);
  });

  it('Q9: validates on the chats that it is given or not at all, where the released code ends with a benchmark from the hub', async () => {
    /** The data that each validation of the released trainer reads, by update: whatever the interval, one follows the last. */
    const released = (updates: number, every: number, data = 'PAPOGalaxy/PAPO_MMK12_test') => {
      const inBetween = Array.from({ length: updates }, (_, i) => i + 1).filter((i) => every > 0 && i % every === 0);
      return [...new Set([...inBetween, updates])].map((update) => ({ update, data }));
    };
    const requests = vi.spyOn(globalThis, 'fetch');
    const inputs = await makeInputs();
    const none = await train(inputs, { epochs: 1 });
    expect(released(none.steps.length, -1)).toEqual([{ update: 2, data: 'PAPOGalaxy/PAPO_MMK12_test' }]);
    expect(none.validation).toEqual([]);
    expect(none.metrics).not.toHaveProperty('validationLoss');
    const own = await makeInputs([chat('green', 'Held out?')]);
    const some = await train(inputs, { epochs: 1, validation: own.data, validateEvery: 1 });
    expect(some.validation).toHaveLength(2);
    expect(requests).not.toHaveBeenCalled();
    requests.mockRestore();
  });

  it('warns of answers without the form of a thought and an answer', async () => {
    const plain: SftRow = {
      ...chat('red', 'Which?'),
      messages: [chat('red', 'Which?').messages[0]!, { role: 'assistant', content: 'red' }],
    };
    const { warnings } = await train(await makeInputs([chat('blue', 'Which?'), plain]), { epochs: 1 });
    expect(warnings).toEqual([expect.stringContaining('1 of 2 answers')]);
    expect(warnings[0]).toContain('(chats 1)');
  });

  it('Q25: warns of thoughts that never name their answer', async () => {
    const unnamed: SftRow = {
      ...chat('red', 'Which?'),
      messages: [
        chat('red', 'Which?').messages[0]!,
        { role: 'assistant', content: '<think>It is like a rose.</think><answer>red</answer>' },
      ],
    };
    const hyphenated: SftRow = {
      ...unnamed,
      messages: [
        unnamed.messages[0]!,
        { role: 'assistant', content: '<think>A Dark-Red square.</think><answer>dark red</answer>' },
      ],
    };
    const { warnings } = await train(await makeInputs([chat('blue', 'Which?'), unnamed, hyphenated]), { epochs: 1 });
    expect(warnings).toEqual(['1 of 3 thoughts never name their answer (chats 1)']);
  });

  it('names chat and file of a broken image', async () => {
    const inputs = await makeInputs();
    writeFileSync(path.join(inputs.data.path, 'images/green.png'), 'no picture');
    await expect(train(inputs)).rejects.toMatchObject({
      code: 'IMAGE_UNREADABLE',
      message: expect.stringMatching(/data\.json: chat 2: .*green\.png/),
    });
  });

  it.each([
    ['too long a chat', {}, { maxTokens: 20 }, 'more than maxTokens 20'],
    ['an empty answer', { content: ' ' }, {}, 'its answer is empty'],
  ] as const)('rejects %s by its number', async (_, change, options, message) => {
    const row = chat('red', 'Which?');
    const inputs = await makeInputs([{ ...row, messages: [row.messages[0]!, { ...row.messages[1]!, ...change }] }]);
    await expect(train(inputs, options)).rejects.toMatchObject({
      code: 'DATA_ROW_INVALID',
      message: expect.stringMatching(new RegExp(`chat 0: .*${message}`)),
    });
  });

  it('takes either epochs or steps, and something to train', () => {
    const check = (options: Partial<SftOptions>) => {
      using context = fakeContext(sftStage, options);
      return sftStage.validate!(context.options).map(({ pointer }) => pointer);
    };
    expect(check({ epochs: 1 })).toEqual([]);
    expect(check({ steps: 1 })).toEqual([]);
    expect(check({})).toEqual(['']);
    expect(check({ steps: 1, epochs: 1 })).toEqual(['/steps']);
    expect(check({ steps: 1, trainable: { vision: false, projector: false, text: false } })).toEqual(['/trainable']);
    expect(check({ steps: 1, minPixels: 9, maxPixels: 8 })).toEqual(['/minPixels']);
    expect(check({ preset: 'fine-r1-3b' })).toEqual([]);
    expect(check({ preset: 'fine-r1-3b', maxPixels: 8 })).toEqual(['/maxPixels']);
  });
});

describe('microBatchesOf()', () => {
  const examples = Array.from({ length: 10 }, (_, i) => ({
    prefix: new Int32Array(1 + ((i * 7) % 5)),
    answer: Int32Array.of(i),
  }));
  const order = { seed: 1, batchSize: 4, microBatchSize: 3, sortByLength: false };
  const numbersOf = (step: number, changes = {}) =>
    microBatchesOf(step, examples, { ...order, ...changes }).map((part) => part.map(({ answer }) => answer[0]!));

  it('shows every chat once in an epoch and changes the order in the next', () => {
    const epoch = (first: number) => [first, first + 1, first + 2].flatMap((step) => numbersOf(step).flat());
    expect([...epoch(0)].sort()).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    expect([...epoch(3)].sort()).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    expect(epoch(3)).not.toEqual(epoch(0));
    expect(numbersOf(0, { seed: 2 })).not.toEqual(numbersOf(0));
  });

  it('cuts an update into micro-batches, the last of an epoch being smaller', () => {
    expect(numbersOf(0).map((part) => part.length)).toEqual([3, 1]);
    expect(numbersOf(2).map((part) => part.length)).toEqual([2]);
  });

  it('sorts the chats of an update by length where the split does not matter', () => {
    const sorted = microBatchesOf(0, examples, { ...order, sortByLength: true }).flat();
    const lengths = sorted.map(({ prefix }) => prefix.length);
    expect(lengths).toEqual([...lengths].sort((a, b) => a - b));
    expect(new Set(sorted.map(({ answer }) => answer[0]))).toEqual(new Set(numbersOf(0).flat()));
  });
});

/** Mean cross-entropies in nats of eight updates, onnxruntime 1.30 on a CPU. */
const RECORDED = [5.8063, 5.3119, 4.8594, 4.4782, 4.2558, 3.8267, 3.8166, 3.8516];
