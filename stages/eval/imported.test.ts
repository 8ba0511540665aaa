/** Scoring of answers given elsewhere, and of nearness in meaning. */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { readPredictions, writePredictions } from '../../src/artifacts/predictions.ts';
import { writeDataset } from '../../src/artifacts/rows.ts';
import { openTextEmbedder } from '../../src/engine/embedding/text-embedder.ts';
import { orderOptions } from '../../src/methods/prompts.ts';
import { fixture } from '../../test/helpers/fixtures.ts';
import { onnxModel } from '../../test/helpers/onnx-model.ts';
import { temporaryFolder } from '../../test/helpers/temporary-folder.ts';
import { fakeArtifact, fakeContext } from '../testing/fake-context.ts';
import { defineEvalStage } from './definition.ts';
import { evaluate } from './evaluate.ts';
import type { EvalOptions } from './options.ts';

const stage = defineEvalStage(() => Promise.reject(new Error('not opened here')));

interface Case {
  readonly id: number;
  readonly mode: 'closed' | 'open';
  readonly image_path: string;
  readonly ground_truth: unknown;
  readonly options: readonly string[] | null;
  readonly model_output: string;
  readonly expected: { readonly correct: boolean };
}

/** Recorded from the reference functions; labels that are no texts cannot be in a list. */
const CASES = (
  JSON.parse(readFileSync(fixture('fine-r1', 'eval_cases.json'), 'utf8')) as { cases: readonly Case[] }
).cases.filter(({ ground_truth: label }) => typeof label === 'string' && label !== '');

/** The cases as Fine-R1 lists and result files: each mode has a list of its own. */
async function referenceFolders(cases: readonly Case[] = CASES) {
  const folder = await temporaryFolder();
  const [lists, results] = [path.join(folder, 'lists'), path.join(folder, 'results')];
  mkdirSync(lists);
  mkdirSync(results);
  for (const [mode, list] of [
    ['closed', 'bird_seen'],
    ['open', 'pet_unseen'],
  ] as const) {
    const own = cases.filter((each) => each.mode === mode);
    const lines = own.map(({ image_path, ground_truth, options }) =>
      JSON.stringify({
        image_path: image_path || 'x',
        question: 'Which?',
        options: options ?? [ground_truth],
        ground_truth,
      }),
    );
    writeFileSync(path.join(lists, `${list}.jsonl`), `${lines.join('\n')}\n`);
    const file = {
      mode: `${mode}world`,
      results: own.map(({ ground_truth, model_output }) => ({ ground_truth, model_output })),
    };
    writeFileSync(path.join(results, `Fine-R1-3B_${list}_${mode}.json`), JSON.stringify(file));
  }
  return { outputs: fakeArtifact('files', results), lists: fakeArtifact('files', lists), results };
}

async function score(options: Partial<EvalOptions>, embedder?: typeof openTextEmbedder) {
  using context = fakeContext(stage, options);
  expect(stage.validate!(context.options)).toEqual([]);
  const { metrics, tables } = await evaluate(context, null, embedder);
  const { warnings } = context;
  return { metrics: metrics!, tables: tables!, warnings, ...(await readPredictions(context.outputs['predictions']!)) };
}

const shareOf = (mode: Case['mode']) => {
  const own = CASES.filter((each) => each.mode === mode);
  return own.filter(({ expected }) => expected.correct).length / own.length;
};

describe('eval of given answers', () => {
  it('gives the accuracy of the reference rules for its result files', async () => {
    const { outputs, lists } = await referenceFolders();
    const { metrics, info, tables, warnings } = await score({ outputs, lists, set: 'reference' });
    expect(metrics['bird-seen_closed']!.value).toBeCloseTo(shareOf('closed'), 12);
    expect(metrics['pet-unseen_open']!.value).toBeCloseTo(shareOf('open'), 12);
    expect(info.rules).toMatchObject({ set: 'reference', standardFrom: 'path', openFallback: 'whole-output' });
    // Either list is answered in one mode only.
    expect(Object.keys(metrics)).not.toContain('pet-unseen_closed');
    expect(tables[0]!.rows.map((row) => row.map((cell) => cell === ''))).toEqual([
      [false, false, true],
      [false, true, false],
      [false, false, false],
    ]);
    expect(warnings.map((warning) => warning.split(' has ')[1])).toEqual([
      'no open answers to bird_seen',
      'no closed answers to pet_unseen',
    ]);
    expect((await score({ outputs, lists, modes: ['open'] })).rows.every(({ mode }) => mode === 'open')).toBe(true);
  });

  it('Q5: scores the same outputs otherwise under the sound rules than under the released ones', async () => {
    const item = { id: 0, mode: 'open', image_path: 'birds/x.jpg', ground_truth: 'Robin', options: null } as const;
    const thought = { ...item, model_output: '<think>a robin</think>', expected: { correct: true } };
    const files = async () => {
      const folders = await referenceFolders([thought]);
      rmSync(path.join(folders.results, 'Fine-R1-3B_bird_seen_closed.json'));
      return { outputs: folders.outputs, lists: folders.lists };
    };
    expect((await score({ ...(await files()), set: 'reference' })).metrics['open']!.value).toBe(1);
    expect((await score({ ...(await files()), set: 'sound' })).metrics['open']!.value).toBe(0);
  });

  it('refuses results that are about other items', async () => {
    const { outputs, lists, results } = await referenceFolders(
      CASES.filter(({ mode }) => mode === 'closed').slice(0, 3),
    );
    const file = path.join(results, 'Fine-R1-3B_bird_seen_closed.json');
    const { results: rows } = JSON.parse(readFileSync(file, 'utf8')) as { results: object[] };
    rmSync(path.join(results, 'Fine-R1-3B_pet_unseen_open.json'));
    writeFileSync(file, JSON.stringify({ results: rows.slice(0, 2) }));
    await expect(score({ outputs, lists })).rejects.toMatchObject({ code: 'PREDICTIONS_DIFFER' });
    writeFileSync(file, JSON.stringify({ results: [rows[0], { ...rows[1], ground_truth: 'another' }, rows[2]] }));
    await expect(score({ outputs, lists })).rejects.toMatchObject({
      code: 'PREDICTIONS_DIFFER',
      message: expect.stringContaining('result 1 is about "another"'),
    });
  });

  it('reads results as Python writes them, with NaN among their scores and labels in lower case', async () => {
    const cases = CASES.filter(({ mode }) => mode === 'closed').slice(0, 3);
    const { outputs, lists, results } = await referenceFolders(cases);
    rmSync(path.join(results, 'Fine-R1-3B_pet_unseen_open.json'));
    const expected = (await score({ outputs, lists })).rows;
    const file = path.join(results, 'Fine-R1-3B_bird_seen_closed.json');
    const { results: rows } = JSON.parse(readFileSync(file, 'utf8')) as { results: Record<string, string>[] };
    const changed = rows.map((row) => ({
      ...row,
      ground_truth: row['ground_truth']!.toLowerCase(),
      model_output: `${row['model_output']}`,
      semantic_score: 0,
      note: 'a "NaN", or \\',
    }));
    writeFileSync(
      file,
      JSON.stringify({ accuracy: 0, results: changed })
        .replace('"accuracy":0', '"accuracy":NaN')
        .replaceAll('"semantic_score":0', '"semantic_score":-Infinity'),
    );
    expect((await score({ outputs, lists })).rows).toEqual(expected);
    writeFileSync(file, '{"accuracy": NaN, "results": [');
    await expect(score({ outputs, lists })).rejects.toMatchObject({
      code: 'DATA_UNREADABLE',
      message: expect.stringContaining('is not JSON'),
    });
  });

  const closedCases = CASES.filter(({ mode, options }) => mode === 'closed' && options && new Set(options).size > 2);
  const closedFolders = async () => {
    const folders = await referenceFolders(closedCases);
    rmSync(path.join(folders.results, 'Fine-R1-3B_pet_unseen_open.json'));
    return folders;
  };

  it('scores a part of the list under a limit, each answer by its own row', async () => {
    const { outputs, lists } = await closedFolders();
    const all = await score({ outputs, lists, set: 'reference' });
    const part = await score({ outputs, lists, set: 'reference', limit: 7 });
    expect(part.rows).toHaveLength(7);
    for (const row of part.rows) expect(all.rows).toContainEqual(row);
  });

  it('records how result files were asked for, whatever the rules of scoring', async () => {
    const { outputs, lists } = await closedFolders();
    const { rows, info } = await score({ outputs, lists, set: 'sound' });
    expect(info.rules).toMatchObject({
      set: 'sound',
      optionOrder: 'as-shipped',
      prompts: { closed: 'unknown' },
      maxNewTokens: null,
      temperature: null,
    });
    expect(info.rules.prompts).not.toHaveProperty('open');
    expect(rows.map(({ options }) => options)).toEqual(closedCases.map(({ options }) => options));
  });

  it('keeps what predictions tell of their making', async () => {
    const folder = await temporaryFolder();
    const options = ['Robin', 'Wren', 'Gull', 'Kite'];
    const row = { id: 'a', image: 'images/a.png', label: 'Robin', question: 'Which?', options };
    mkdirSync(path.join(folder, 'data/images'), { recursive: true });
    writeFileSync(path.join(folder, 'data/images/a.png'), '');
    const dataset = { name: 'birds', superCategory: 'bird', split: 'seen', classes: ['Robin'] } as const;
    await writeDataset(path.join(folder, 'data'), dataset, [row]);
    const made = {
      prompts: { closed: 'compact/closed@1' },
      optionOrder: 'shuffled',
      optionSeed: 9,
      maxNewTokens: 64,
      temperature: 0,
      topP: 1,
      topK: 0,
      repetitionPenalty: 1.05,
    };
    const scoring = { standardFrom: 'super-category', openFallback: 'none', emptyCarLabel: 'whole-label' };
    mkdirSync(path.join(folder, 'predictions'));
    await writePredictions(path.join(folder, 'predictions'), {
      info: { version: 1, rules: { ...made, ...scoring }, splits: [], model: 'sha256-of-the-model', seed: 4 },
      rows: [
        {
          ...{ id: 'a', split: 'seen', mode: 'closed', label: 'Robin', answer: 'robin' },
          ...{ options: orderOptions(options, 'shuffled', 9, 'a'), output: '<answer>Robin</answer>' },
          ...{ correct: false, strictlyCorrect: false },
        },
      ],
    });
    const { rows, info } = await score({
      outputs: fakeArtifact('predictions', path.join(folder, 'predictions')),
      data: { seen: fakeArtifact('eval-data', path.join(folder, 'data')) },
      modes: ['closed'],
      set: 'reference',
    });
    expect(info).toMatchObject({ rules: { ...made, set: 'reference', openFallback: 'whole-output' } });
    expect(info.model).toBe('sha256-of-the-model');
    expect(rows[0]).toMatchObject({ correct: true, options: orderOptions(options, 'shuffled', 9, 'a') });
  });

  it('refuses options about asking', () => {
    const outputs = fakeArtifact('files', '.');
    using context = fakeContext(stage, { outputs, lists: outputs, optionOrder: 'as-shipped', temperature: 1 });
    const problems = stage.validate!(context.options);
    expect(problems.map(({ pointer }) => pointer)).toEqual(['/optionOrder', '/temperature']);
  });

  const similarity = { hub: 'toy', revision: 'main' };

  /** Open-world results about the label Robin, as folders of lists and results. */
  async function aboutRobin(answers: readonly string[]) {
    const cases = answers.map((model_output, id) => ({
      id,
      mode: 'open' as const,
      image_path: 'x/y.jpg',
      ground_truth: 'Robin',
      options: null,
      model_output,
      expected: { correct: true },
    }));
    const { outputs, lists, results } = await referenceFolders(cases);
    rmSync(path.join(results, 'Fine-R1-3B_bird_seen_closed.json'));
    return { outputs, lists };
  }

  /** Unknown texts have nothing in common with Robin, [1, 0]. */
  function embedderOf(vectors: Record<string, readonly [number, number]>): typeof openTextEmbedder {
    return async () => ({
      name: 'toy@1',
      embed: async (texts) => texts.map((text) => Float32Array.from(vectors[text] ?? [0, 1])),
      async [Symbol.asyncDispose]() {},
    });
  }

  it('adds relative similarities to open answers', async () => {
    const folders = await aboutRobin(['<answer>Robin</answer>', '<answer>Wren</answer>', '<think>Robin</think>']);
    const embedder = embedderOf({ Robin: [1, 0], pet: [0.6, 0.8], Wren: [0.8, 0.6] });
    const { rows, metrics, info } = await score({ ...folders, similarity }, embedder);
    expect(rows.map((row) => row.similarity)).toEqual([1, expect.closeTo(0.5, 6), 0]);
    expect(metrics['similarity']!.value).toBeCloseTo(0.5, 6);
    expect(info.rules.similarity).toBe('toy@1');
  });

  it('gives no answer a similarity of 0, or embeds the whole output, empty or not, as the released evaluation', async () => {
    const folders = await aboutRobin(['', '<answer> </answer>', 'no tags']);
    const embedder = embedderOf({
      Robin: [1, 0],
      '': [0.6, 0.8],
      'no tags': [0.8, 0.6],
      '<answer> </answer>': [0.28, 0.96],
    });
    const similarities = async (set: EvalOptions['set']) =>
      (await score({ ...folders, similarity, set }, embedder)).rows.map((row) => row.similarity);
    expect(await similarities('reference')).toEqual([0.6, 0.28, 0.8].map((value) => expect.closeTo(value, 6)));
    expect(await similarities('sound')).toEqual([0, 0, 0]);
  });
});

describe('check of given answers', () => {
  async function check(options: Partial<EvalOptions>) {
    using context = fakeContext(stage, options);
    const found: string[] = [];
    const problems: Error[] = [];
    await stage.check!({
      name: 'eval',
      options: context.options,
      provider: 'cpu',
      signal: context.signal,
      progress: () => undefined,
      problem: (error) => problems.push(error),
      found: (message) => found.push(message),
      needsDisk: () => undefined,
    });
    return { found, problems: problems.map(({ message }) => message) };
  }

  it('reads answers beside their lists', async () => {
    const { outputs, lists, results } = await referenceFolders();
    expect((await check({ outputs, lists })).found.at(-1)).toBe(`${CASES.length} answers to 2 test sets`);
    writeFileSync(path.join(results, 'Fine-R1-3B_pet_unseen_open.json'), '{"results": []}');
    await expect(check({ outputs, lists })).rejects.toMatchObject({ code: 'PREDICTIONS_DIFFER' });
  });

  it('names what the text model of similarities lacks', async () => {
    const { outputs, lists } = await referenceFolders();
    const folder = await temporaryFolder();
    writeFileSync(path.join(folder, 'config.json'), '{}');
    const model = fakeArtifact('files', folder);
    const { problems } = await check({ outputs, lists, similarity: { model, revision: 'main' } });
    expect(problems).toEqual([
      expect.stringContaining('tokenizer.json, tokenizer_config.json, onnx/model.onnx or onnx/text_model.onnx missing'),
    ]);
  });
});

describe('openTextEmbedder()', () => {
  it('gives unit vectors of a local model, equal for equal texts', async () => {
    const folder = await temporaryFolder();
    for (const file of ['tokenizer.json', 'tokenizer_config.json']) {
      writeFileSync(path.join(folder, file), readFileSync(fixture('tokenizer_tiny', file)));
    }
    writeFileSync(path.join(folder, 'config.json'), JSON.stringify({ model_type: 'bert' }));
    const table = Float32Array.from({ length: 320 * 8 }, (_, i) => Math.sin(i * 12.9898) * 3);
    const model = onnxModel({
      nodes: [{ op: 'Gather', inputs: ['table', 'input_ids'], outputs: ['last_hidden_state'] }],
      inputs: [{ name: 'input_ids', dtype: 'int64', shape: ['B', 'T'] }],
      outputs: [{ name: 'last_hidden_state', shape: ['B', 'T', 8] }],
      initializers: { table: { dtype: 'float32', shape: [320, 8], data: table } },
    });
    mkdirSync(path.join(folder, 'onnx'));
    writeFileSync(path.join(folder, 'onnx', 'model.onnx'), model);
    await using embedder = await openTextEmbedder({ model: fakeArtifact('files', folder), revision: 'main' });
    const [robin, again, wren] = await embedder.embed(['a robin', 'a robin', 'the wren of the north']);
    expect(robin).toEqual(again);
    expect(Math.hypot(...robin!)).toBeCloseTo(1, 5);
    expect(robin!.reduce((sum, value, i) => sum + value * wren![i]!, 0)).toBeLessThan(0.99);
  });

  it('tells what a folder lacks', async () => {
    const folder = await temporaryFolder();
    await expect(openTextEmbedder({ model: fakeArtifact('files', folder), revision: 'main' })).rejects.toMatchObject({
      code: 'CHECKPOINT_UNREADABLE',
      hint: expect.stringContaining('tokenizer.json'),
    });
  });
});
