/** Scoring of answers given elsewhere, and of nearness in meaning. */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { readPredictions } from '../../src/artifacts/predictions.ts';
import { openTextEmbedder } from '../../src/engine/embedding/text-embedder.ts';
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
  return { metrics: metrics!, tables: tables!, ...(await readPredictions(context.outputs['predictions']!)) };
}

const shareOf = (mode: Case['mode']) => {
  const own = CASES.filter((each) => each.mode === mode);
  return own.filter(({ expected }) => expected.correct).length / own.length;
};

describe('eval of given answers', () => {
  it('gives the accuracy of the reference rules for its result files', async () => {
    const { outputs, lists } = await referenceFolders();
    const closed = await score({ outputs, lists, modes: ['closed'], set: 'reference' }).catch(
      (error: unknown) => error,
    );
    // The list of the open file has no closed answers.
    expect(closed).toMatchObject({ code: 'DATA_UNREADABLE', message: expect.stringContaining('pet-unseen closed') });
    for (const mode of ['closed', 'open'] as const) {
      const own = await referenceFolders(CASES.filter((each) => each.mode === mode));
      const list = mode === 'closed' ? 'bird_seen' : 'pet_unseen';
      const other = mode === 'closed' ? 'pet_unseen_open' : 'bird_seen_closed';
      rmSync(path.join(own.results, `Fine-R1-3B_${other}.json`));
      const { metrics, info } = await score({ outputs: own.outputs, lists: own.lists, set: 'reference' });
      expect(metrics[`${list.replace('_', '-')}_${mode}`]!.value).toBeCloseTo(shareOf(mode), 12);
      expect(info.rules).toMatchObject({ set: 'reference', standardFrom: 'path', openFallback: 'whole-output' });
    }
  });

  it('scores the same outputs otherwise under the sound rules', async () => {
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

  it('adds relative similarities to open answers', async () => {
    const answers = ['<answer>Robin</answer>', '<answer>Wren</answer>', '<think>Robin</think>'];
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
    const vectors: Record<string, Float32Array> = {
      Robin: Float32Array.of(1, 0),
      pet: Float32Array.of(0.6, 0.8),
      Wren: Float32Array.of(0.8, 0.6),
    };
    const embedder: typeof openTextEmbedder = async () => ({
      name: 'toy@1',
      embed: async (texts) => texts.map((text) => vectors[text] ?? Float32Array.of(0, 1)),
      async [Symbol.asyncDispose]() {},
    });
    const similarity = { hub: 'toy', revision: 'main' };
    const { rows, metrics, info } = await score({ outputs, lists, similarity }, embedder);
    expect(rows.map((row) => row.similarity)).toEqual([1, expect.closeTo(0.5, 6), 0]);
    expect(metrics['similarity']!.value).toBeCloseTo(0.5, 6);
    expect(info.rules.similarity).toBe('toy@1');
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
