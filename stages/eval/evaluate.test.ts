import { appendFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { readPredictions } from '../../src/artifacts/predictions.ts';
import type { EvalRow } from '../../src/artifacts/types.ts';
import type { GenerationRequest, SamplingOptions } from '../../src/engine/generate/types.ts';
import type { Lease } from '../../src/pool/lease.ts';
import { fakeArtifact, fakeContext } from '../testing/fake-context.ts';
import { defineEvalStage } from './definition.ts';
import { type EvaluatedModel, evaluate } from './evaluate.ts';
import type { EvalOptions } from './options.ts';

const stage = defineEvalStage(() => Promise.reject(new Error('not opened here')));

function temporaryFolder(): Disposable & { readonly path: string } {
  const folder = mkdtempSync(path.join(tmpdir(), 'fr1-eval-'));
  return { path: folder, [Symbol.dispose]: () => rmSync(folder, { recursive: true, force: true }) };
}

const LABELS = ['Robin', 'Wren', 'Gull', 'Mexican Robin', 'Crow'];

/** Item `i` shows label `i % 5`; its picture is that label as text. */
function testSet(folder: string, name: string, count: number): EvalRow[] {
  const root = path.join(folder, name);
  mkdirSync(path.join(root, 'images'), { recursive: true });
  const rows = Array.from({ length: count }, (_, i) => {
    const label = LABELS[i % LABELS.length]!;
    const others = LABELS.filter((other) => other !== label).slice(0, 3);
    writeFileSync(path.join(root, 'images', `${i}.png`), label);
    return {
      id: `${name}-${i}`,
      image: `images/${i}.png`,
      label,
      question: 'Which bird?',
      options: [label, ...others],
    };
  });
  writeFileSync(path.join(root, 'rows.jsonl'), rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
  writeFileSync(path.join(root, 'dataset.json'), JSON.stringify({ name, superCategory: 'bird', split: 'seen' }));
  return rows;
}

function options(folder: string, changes: Partial<EvalOptions> = {}): Partial<EvalOptions> {
  return {
    model: fakeArtifact('checkpoint', folder),
    data: {
      seen: fakeArtifact('eval-data', path.join(folder, 'seen')),
      unseen: fakeArtifact('eval-data', path.join(folder, 'unseen')),
    },
    prompts: 'compact',
    maxNewTokens: 50,
    batchSize: 4,
    ...changes,
  };
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();

interface FakeModel extends EvaluatedModel {
  readonly prompts: string[];
  readonly batches: number[];
  readonly requests: GenerationRequest[];
  given?: SamplingOptions;
}

/** Token ids are bytes. The answer is made from what the picture shows; the generator fails at batch `failAt`. */
function fakeModel(answer: (shown: string, prompt: string) => string, failAt = Number.POSITIVE_INFINITY): FakeModel {
  const model: FakeModel = {
    prompts: [],
    batches: [],
    requests: [],
    stopTokenIds: [0],
    bannedTokenIds: [1],
    sampling: { temperature: 0.3, topP: 0.8, topK: 5, repetitionPenalty: 1.1 },
    ignoredSampling: [],
    async encode(prompt, image) {
      const shown = decoder.decode(image);
      if (shown === 'broken') throw new Error('not a picture');
      model.prompts.push(prompt);
      return { inputIds: Int32Array.from(encoder.encode(answer(shown, prompt))), images: [] };
    },
    decode: (tokenIds) => decoder.decode(Uint8Array.from(tokenIds)),
    generator: {
      async generate(requests, sampling, { onProgress }) {
        if (model.batches.length === failAt) throw new Error('power cut');
        model.batches.push(requests.length);
        model.requests.push(...requests);
        model.given = sampling;
        onProgress?.(requests.length, requests.length);
        return requests.map(({ inputIds }) => [
          { tokenIds: [...inputIds], logProbs: null, finishReason: 'stop' as const },
        ]);
      },
    },
  };
  return model;
}

const rightAnswer = (shown: string) => `<think>t</think><answer>${shown}</answer>`;
const readOutput = (context: { outputs: Readonly<Record<string, string>> }) =>
  readPredictions(context.outputs['predictions']!);

describe('evaluate()', () => {
  it('scores every item of every test set in every mode', async () => {
    using folder = temporaryFolder();
    testSet(folder.path, 'seen', 10);
    testSet(folder.path, 'unseen', 5);
    using context = fakeContext(stage, options(folder.path));
    // Right except for gulls, a fifth of the items.
    const model = fakeModel((shown) => rightAnswer(shown === 'Gull' ? 'Crow' : shown));
    const { metrics, tables } = await evaluate(context, model);

    expect(metrics!['seen_closed']).toMatchObject({ value: 0.8, n: 10 });
    expect(metrics!['unseen_open']).toMatchObject({ value: 0.8, n: 5 });
    expect(metrics!['closed']).toMatchObject({ value: 0.8, n: 15 });
    expect(Object.keys(metrics!).sort()).toEqual(
      ['closed', 'open', 'seen_closed', 'seen_open', 'unseen_closed', 'unseen_open']
        .flatMap((name) => [name, `${name}_strict`, ...(name.endsWith('closed') ? [`${name}_outside`] : [])])
        .sort(),
    );
    expect(metrics!['seen_closed']!.low).toBeLessThan(0.8);
    expect(tables![0]!.rows.map((row) => row[0])).toEqual(['seen', 'unseen', 'mean']);

    const { rows, info } = await readOutput(context);
    expect(rows.map(({ id, mode }) => `${mode} ${id}`).slice(8, 12)).toEqual([
      'closed seen-8',
      'closed seen-9',
      'open seen-0',
      'open seen-1',
    ]);
    expect(rows[2]).toMatchObject({ split: 'seen', label: 'Gull', answer: 'crow', correct: false });
    expect(info.rules.prompts).toEqual({ closed: 'compact/closed@1', open: 'compact/open@1' });
    expect(info.splits.map(({ name, items }) => [name, items])).toEqual([
      ['seen', 10],
      ['unseen', 5],
    ]);
    const file = JSON.parse(readFileSync(path.join(context.outputs['metrics']!, 'metrics.json'), 'utf8'));
    expect(file).toEqual({ version: 1, metrics });
  });

  it('tells containment from strict hits', async () => {
    using folder = temporaryFolder();
    testSet(folder.path, 'seen', 5);
    testSet(folder.path, 'unseen', 5);
    using context = fakeContext(stage, options(folder.path));
    const { metrics } = await evaluate(
      context,
      fakeModel((shown) => rightAnswer(`${shown} or Heron`)),
    );
    expect(metrics!['closed']!.value).toBe(1);
    expect(metrics!['closed_strict']!.value).toBe(0);
  });

  it('Q1: shows the options in an order that does not give the label away, or label first as the released lists', async () => {
    using folder = temporaryFolder();
    testSet(folder.path, 'seen', 60);
    testSet(folder.path, 'unseen', 1);
    const placesOfLabel = async (optionOrder: EvalOptions['optionOrder']) => {
      using context = fakeContext(stage, options(folder.path, { optionOrder }));
      await evaluate(context, fakeModel(rightAnswer));
      const { rows } = await readOutput(context);
      return rows.filter(({ mode }) => mode === 'closed').map((row) => row.options!.indexOf(row.label));
    };
    expect(new Set(await placesOfLabel('shuffled'))).toEqual(new Set([0, 1, 2, 3]));
    expect(new Set(await placesOfLabel('as-shipped'))).toEqual(new Set([0]));
  });

  it('puts the options into the closed prompt in the order that the row records', async () => {
    using folder = temporaryFolder();
    testSet(folder.path, 'seen', 1);
    const data = { seen: fakeArtifact('eval-data', path.join(folder.path, 'seen')) };
    using context = fakeContext(stage, options(folder.path, { data }));
    const model = fakeModel(rightAnswer);
    const { tables } = await evaluate(context, model);
    const { rows } = await readOutput(context);
    expect(model.prompts).toEqual([`Which bird? Options: ${rows[0]!.options!.join(', ')}.`, 'Which bird?']);
    expect(rows[1]!.options).toBeUndefined();
    expect(tables![0]!.rows).toHaveLength(1);
  });

  it('passes the decoding settings on and gives each request a seed of its own', async () => {
    using folder = temporaryFolder();
    testSet(folder.path, 'seen', 2);
    testSet(folder.path, 'unseen', 2);
    const changes = { temperature: 0.5, repetitionPenalty: 1.05 };
    using context = fakeContext(stage, options(folder.path, changes));
    const model = fakeModel(rightAnswer);
    await evaluate(context, model);
    expect(model.given).toMatchObject({
      maxNewTokens: 50,
      temperature: 0.5,
      repetitionPenalty: 1.05,
      // Not among the options, so as the model's generation_config.json says.
      topP: 0.8,
      topK: 5,
      stopTokenIds: [0],
      bannedTokenIds: [1],
      samplesPerRequest: 1,
    });
    expect(new Set(model.requests.map(({ seed }) => seed)).size).toBe(8);
    const { info } = await readOutput(context);
    expect(info.rules).toMatchObject({ temperature: 0.5, topP: 0.8, topK: 5, repetitionPenalty: 1.05 });
  });

  it.each([0, 1, 3])('ends with the same outputs when it is cut off before batch %i', async (failAt) => {
    using folder = temporaryFolder();
    testSet(folder.path, 'seen', 7);
    testSet(folder.path, 'unseen', 3);
    using whole = fakeContext(stage, options(folder.path));
    await evaluate(whole, fakeModel(rightAnswer));

    using first = fakeContext(stage, options(folder.path));
    await expect(evaluate(first, fakeModel(rightAnswer, failAt))).rejects.toThrow('power cut');
    using second = fakeContext(stage, options(folder.path), { state: first.state });
    const resumed = fakeModel(rightAnswer);
    await evaluate(second, resumed);

    expect(resumed.batches).toEqual([4, 4, 4, 4, 4].slice(failAt));
    for (const [output, file] of [
      ['predictions', 'rows.jsonl'],
      ['predictions', 'evaluation.json'],
      ['metrics', 'metrics.json'],
    ] as const) {
      const text = (context: typeof whole) => readFileSync(path.join(context.outputs[output]!, file), 'utf8');
      expect(text(second)).toBe(text(whole));
    }
  });

  it('repeats a batch that was written in part only', async () => {
    using folder = temporaryFolder();
    testSet(folder.path, 'seen', 7);
    testSet(folder.path, 'unseen', 3);
    using first = fakeContext(stage, options(folder.path));
    await expect(evaluate(first, fakeModel(rightAnswer, 1))).rejects.toThrow('power cut');
    const line = JSON.stringify({ key: 'seen/closed/seen-4', output: 'stale', finishReason: 'stop' });
    appendFileSync(path.join(first.state, 'outputs.jsonl'), `${line}\n{"key":"seen/clo`);
    using second = fakeContext(stage, options(folder.path), { state: first.state });
    const resumed = fakeModel(rightAnswer);
    await evaluate(second, resumed);
    expect(resumed.batches).toEqual([4, 4, 4, 4]);
    expect((await readOutput(second)).rows.map(({ output }) => output)).not.toContain('stale');
  });

  it('generates nothing when every output is there', async () => {
    using folder = temporaryFolder();
    testSet(folder.path, 'seen', 3);
    testSet(folder.path, 'unseen', 3);
    using first = fakeContext(stage, options(folder.path));
    await evaluate(first, fakeModel(rightAnswer));
    using second = fakeContext(stage, options(folder.path), { state: first.state });
    const resumed = fakeModel(rightAnswer);
    const { metrics } = await evaluate(second, resumed);
    expect(resumed.batches).toEqual([]);
    expect(metrics!['closed']!.n).toBe(6);
  });

  it('draws the same limited choice for every model', async () => {
    using folder = temporaryFolder();
    testSet(folder.path, 'seen', 30);
    testSet(folder.path, 'unseen', 3);
    const chosen = async (seed: number) => {
      using context = fakeContext(stage, options(folder.path, { limit: 5 }), { seed });
      await evaluate(context, fakeModel(rightAnswer));
      return (await readOutput(context)).rows.filter((row) => row.split === 'seen').map(({ id }) => id);
    };
    const ids = await chosen(1);
    expect(ids).toHaveLength(10);
    expect(ids.slice(0, 5)).not.toEqual(['seen-0', 'seen-1', 'seen-2', 'seen-3', 'seen-4']);
    expect(await chosen(2)).toEqual(ids);
  });

  it('reports progress over all answers with the accuracy so far', async () => {
    using folder = temporaryFolder();
    testSet(folder.path, 'seen', 4);
    testSet(folder.path, 'unseen', 4);
    using context = fakeContext(stage, options(folder.path));
    await evaluate(context, fakeModel(rightAnswer));
    expect(context.progressed.at(-1)).toEqual({ done: 16, total: 16, unit: 'answers', note: 'unseen open 100.0 %' });
  });

  it('warns of outputs that were cut off', async () => {
    using folder = temporaryFolder();
    testSet(folder.path, 'seen', 2);
    testSet(folder.path, 'unseen', 2);
    using context = fakeContext(stage, options(folder.path));
    const model = fakeModel(rightAnswer);
    const generate = model.generator.generate;
    model.generator.generate = async (...args) =>
      (await generate(...args)).map((samples) => [
        { tokenIds: samples[0]!.tokenIds, logProbs: null, finishReason: 'length' },
      ]);
    await evaluate(context, model);
    expect(context.warnings).toEqual(['8 of 8 outputs were cut off at 50 tokens (maxNewTokens)']);
  });

  it.each([
    ['cpu', [16, 16, 8]],
    ['webgpu', [40]],
    ['cuda', [40]],
  ] as const)('answers as many items at a time as suits the device: %s', async (provider, batches) => {
    using folder = temporaryFolder();
    testSet(folder.path, 'seen', 15);
    testSet(folder.path, 'unseen', 5);
    const { batchSize: _, ...unsaid } = options(folder.path);
    const lease = { device: { provider } } as unknown as Lease;
    using context = fakeContext(stage, unsaid, { lease });
    const model = fakeModel(rightAnswer);
    await evaluate(context, model);
    expect(model.batches).toEqual(batches);
    expect(stage.deviceDefaults!(provider)).toEqual({ batchSize: provider === 'cpu' ? 16 : 256 });
    expect(context.messages.join()).toContain(`${provider === 'cpu' ? 16 : 256} items at a time`);
  });

  it('begins a batch where large images fill one, and where a run is continued', async () => {
    using folder = temporaryFolder();
    testSet(folder.path, 'seen', 10);
    const data = { seen: fakeArtifact('eval-data', path.join(folder.path, 'seen')) };
    const image = { pixels: new Float32Array(2 ** 26), grid: [1, 2, 2] } as const;
    using context = fakeContext(stage, options(folder.path, { data, batchSize: 6, modes: ['closed'] }));
    const model = fakeModel(rightAnswer);
    const encode: FakeModel['encode'] = async (prompt, bytes) => ({
      ...(await model.encode(prompt, bytes)),
      images: [image],
    });
    await evaluate(context, { ...model, encode });
    expect(model.batches).toEqual([4, 2, 4]);
  });

  it('stops between batches when aborted', async () => {
    using folder = temporaryFolder();
    testSet(folder.path, 'seen', 8);
    testSet(folder.path, 'unseen', 8);
    const controller = new AbortController();
    using context = fakeContext(stage, options(folder.path), { signal: controller.signal });
    const model = fakeModel((shown) => {
      controller.abort(new Error('stopped'));
      return rightAnswer(shown);
    });
    await expect(evaluate(context, model)).rejects.toThrow('stopped');
    expect(model.batches).toEqual([4]);
  });

  it('names the row of a broken image', async () => {
    using folder = temporaryFolder();
    testSet(folder.path, 'seen', 3);
    testSet(folder.path, 'unseen', 3);
    const broken = path.join(folder.path, 'seen', 'images/1.png');
    writeFileSync(broken, 'broken');
    using context = fakeContext(stage, options(folder.path));
    await expect(evaluate(context, fakeModel(rightAnswer))).rejects.toMatchObject({
      code: 'IMAGE_UNREADABLE',
      message: `test set "seen", row "seen-1" (${broken}): not a picture`,
    });
  });

  it.each([
    ['a label that is not an option', { label: 'Dodo' }, /row "seen-1": its label "Dodo" is not among its options/],
    ['two equal options', { options: ['Wren', 'Wren'] }, /two of its options are the same/],
    ['a missing image', { image: 'images/none.png' }, /its image images\/none\.png does not exist/],
    ['a repeated id', { id: 'seen-0' }, /another row has the same id/],
    ['a missing question', { question: undefined }, /"question" is not a text/],
  ])('refuses a row with %s', async (_, change, message) => {
    using folder = temporaryFolder();
    const rows: object[] = testSet(folder.path, 'seen', 3);
    testSet(folder.path, 'unseen', 3);
    rows[1] = { ...rows[1], ...change };
    writeFileSync(path.join(folder.path, 'seen/rows.jsonl'), rows.map((row) => JSON.stringify(row)).join('\n'));
    using context = fakeContext(stage, options(folder.path));
    await expect(evaluate(context, fakeModel(rightAnswer))).rejects.toMatchObject({
      code: 'DATA_ROW_INVALID',
      message: expect.stringMatching(message),
      at: { line: 2 },
    });
  });

  it('refuses an empty test set', async () => {
    using folder = temporaryFolder();
    testSet(folder.path, 'seen', 0);
    testSet(folder.path, 'unseen', 1);
    using context = fakeContext(stage, options(folder.path));
    await expect(evaluate(context, fakeModel(rightAnswer))).rejects.toThrow('the test set "seen" has no rows');
  });
});

describe('defineEvalStage()', () => {
  it('opens the checkpoint on the leased device and closes it after use', async () => {
    using folder = temporaryFolder();
    testSet(folder.path, 'seen', 2);
    testSet(folder.path, 'unseen', 2);
    const lease = { device: { id: 'cpu', provider: 'cpu', description: 'none', threads: 1 } } as Lease;
    const events: unknown[] = [];
    const opening = defineEvalStage(async (source, checkpoint) => {
      events.push(source.provider, checkpoint);
      return {
        ...fakeModel(rightAnswer, 1),
        async [Symbol.asyncDispose]() {
          events.push('closed');
        },
      };
    });
    using context = fakeContext(opening, options(folder.path), { lease });
    await expect(opening.run(context)).rejects.toThrow('power cut');
    expect(events).toEqual(['cpu', folder.path, 'closed']);
  });
});
