/**
 * The stage on a CLIP of random weights; expected.json holds what transformers 5.17 computes from the same weights, texts and
 * pictures (scripts/make_tiny_clip.py).
 */
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readPredictions } from '../../src/artifacts/predictions.ts';
import { openPictureEmbedder } from '../../src/engine/embedding/picture-embedder.ts';
import { openTextEmbedder } from '../../src/engine/embedding/text-embedder.ts';
import { loadImage } from '../../src/engine/image/load-image.ts';
import type { Lease } from '../../src/pool/lease.ts';
import type { CheckContext } from '../../src/run/stage-api.ts';
import { fixture } from '../../test/helpers/fixtures.ts';
import { fakeArtifact, fakeContext } from '../testing/fake-context.ts';
import type { ZeroshotOptions } from './options.ts';
import { zeroshotStage } from './stage.ts';

const FILES = fixture('tiny_clip');
const MODEL = fakeArtifact('files', path.join(FILES, 'model'));
const EXPECTED = JSON.parse(readFileSync(path.join(FILES, 'expected.json'), 'utf8')) as {
  readonly labels: readonly string[];
  readonly template: string;
  /** By picture, in the order of the labels. */
  readonly cosines: Readonly<Record<string, readonly number[]>>;
};

/** Only the threads of the device are used: the model runs in transformers.js. */
const LEASE = { device: { id: 'cpu', provider: 'cpu', description: 'test', threads: 1 } } as Lease;

/** What Python's cosines say, among the labels given. */
const nearestInPython = (picture: string, labels: readonly string[]) => {
  const cosineOf = (label: string) => EXPECTED.cosines[picture]![EXPECTED.labels.indexOf(label)]!;
  return labels.reduce((best, label) => (cosineOf(label) > cosineOf(best) ? label : best));
};

let folder: string;

beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'fr1-zeroshot-'));
  makeTestSet('seen', EXPECTED.labels.slice(0, 4));
  makeTestSet('unseen', EXPECTED.labels.slice(2));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Every picture with every label as the right one. */
function makeTestSet(name: string, options: readonly string[]): void {
  const target = path.join(folder, name);
  mkdirSync(target);
  cpSync(path.join(FILES, 'images'), path.join(target, 'images'), { recursive: true });
  const rows = Object.keys(EXPECTED.cosines).flatMap((picture) =>
    options.map((label) => ({
      id: `${picture}-${label}`,
      image: `images/${picture}.png`,
      label,
      question: 'Which bird is it?',
      options: [label, ...options.filter((option) => option !== label)],
    })),
  );
  writeFileSync(path.join(target, 'rows.jsonl'), rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
  writeFileSync(path.join(target, 'dataset.json'), JSON.stringify({ name, superCategory: 'bird' }));
}

const data = (...names: string[]) =>
  Object.fromEntries(names.map((name) => [name, fakeArtifact('eval-data', path.join(folder, name))]));

async function named(options: Partial<ZeroshotOptions>, state?: string, signal?: AbortSignal) {
  const settings = { lease: LEASE, ...(state && { state }), ...(signal && { signal }) };
  using context = fakeContext(zeroshotStage, { model: MODEL, data: data('seen', 'unseen'), ...options }, settings);
  const result = await zeroshotStage.run(context);
  return { ...result, predictions: await readPredictions(context.outputs['predictions']!), messages: context.messages };
}

describe('openPictureEmbedder() and openTextEmbedder()', () => {
  it.each(Object.keys(EXPECTED.cosines))('give the cosines of transformers for the picture %s', async (picture) => {
    const choice = { model: MODEL, revision: 'main' };
    await using texts = await openTextEmbedder(choice);
    await using pictures = await openPictureEmbedder(choice);
    const described = EXPECTED.labels.map((label) => EXPECTED.template.replace('{}', label.replaceAll('_', ' ')));
    const labels = await texts.embed(described);
    const [image] = await pictures.embed([await loadImage(path.join(FILES, `images/${picture}.png`))]);
    const cosines = labels.map((label) => label.reduce((sum, value, i) => sum + value * image![i]!, 0));
    const worst = Math.max(...cosines.map((value, i) => Math.abs(value - EXPECTED.cosines[picture]![i]!)));
    // The square picture has the model's size. Pillow rounds the weights of resizing otherwise than torch: single levels differ.
    expect(worst).toBeLessThan(picture === 'square' ? 1e-6 : 2e-3);
  });
});

describe('zeroshotStage', () => {
  it('chooses the labels that are nearest in transformers', async () => {
    const { metrics, predictions } = await named({});
    for (const { id, options, output, correct, label } of predictions.rows) {
      const nearest = nearestInPython(id.split('-')[0]!, options!);
      expect({ id, output, correct }).toEqual({ id, output: nearest, correct: nearest === label });
    }
    expect(new Set(predictions.rows.map(({ output }) => output)).size).toBeGreaterThan(2);
    expect(metrics!['seen_closed']).toMatchObject({ value: 0.25, n: 16 });
    expect(metrics!['all_labels']).toMatchObject({ value: 0.25, n: 32 });
    expect(predictions.info.rules).toMatchObject({ method: 'contrastive', prompts: { closed: 'a photo of a {}' } });
  });

  it('also chooses among all labels of a test set', async () => {
    const narrow = path.join(folder, 'narrow');
    mkdirSync(narrow);
    cpSync(path.join(FILES, 'images'), path.join(narrow, 'images'), { recursive: true });
    const best = nearestInPython('square', EXPECTED.labels);
    const [wrong, other] = EXPECTED.labels.filter((label) => label !== best) as [string, string];
    const rows = [
      { id: 'a', label: wrong, options: [wrong, other] },
      { id: 'b', label: best, options: [best, other] },
    ].map((row) => ({ ...row, image: 'images/square.png', question: 'Which?' }));
    writeFileSync(path.join(narrow, 'rows.jsonl'), rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
    writeFileSync(path.join(narrow, 'dataset.json'), JSON.stringify({ name: 'narrow', superCategory: 'bird' }));
    const { metrics } = await named({ data: data('narrow') });
    const offered = nearestInPython('square', [wrong, other]) === wrong ? 1 : 0.5;
    expect(metrics!['narrow_closed']).toMatchObject({ value: offered });
    expect(metrics!['narrow_all_labels']).toMatchObject({ value: 0.5 });
  });

  it('goes on after an interruption and ends with the same predictions', async () => {
    const state = path.join(folder, 'state');
    mkdirSync(state);
    const whole = await named({ batchSize: 5 }, state);
    const log = path.join(state, 'outputs.jsonl');
    const lines = readFileSync(log, 'utf8').split('\n');
    writeFileSync(log, [...lines.slice(0, 12), lines[12]!.slice(0, 9)].join('\n'));
    const resumed = await named({ batchSize: 5 }, state);
    expect(resumed.messages).toContain('continuing after 10 of 32 images');
    expect(resumed.predictions).toEqual(whole.predictions);
  });

  it('describes labels by the template', async () => {
    const plain = await named({});
    const other = await named({ template: '{}' });
    expect(other.predictions.rows.map(({ output }) => output)).not.toEqual(
      plain.predictions.rows.map(({ output }) => output),
    );
  });

  it('names the row of a picture that cannot be read', async () => {
    makeTestSet('broken', EXPECTED.labels.slice(0, 4));
    writeFileSync(path.join(folder, 'broken/images/wide.png'), 'no picture');
    await expect(named({ data: data('broken') })).rejects.toMatchObject({
      code: 'IMAGE_UNREADABLE',
      message: expect.stringContaining('test set "broken", row "wide-'),
    });
  });

  it('refuses a model of another kind, and names what is missing from a folder before it runs', async () => {
    const other = path.join(folder, 'other');
    cpSync(MODEL.path, other, { recursive: true });
    const config = JSON.parse(readFileSync(path.join(other, 'config.json'), 'utf8')) as object;
    writeFileSync(path.join(other, 'config.json'), JSON.stringify({ ...config, model_type: 'blip' }));
    await expect(named({ model: fakeArtifact('files', other) })).rejects.toMatchObject({
      code: 'CHECKPOINT_UNREADABLE',
    });

    rmSync(path.join(other, 'onnx/text_model.onnx'));
    const problems: Error[] = [];
    await zeroshotStage.check!({
      name: 'zeroshot',
      options: { model: fakeArtifact('files', other), data: {} },
      problem: (error: Error) => problems.push(error),
    } as unknown as CheckContext<ZeroshotOptions>);
    expect(problems).toMatchObject([{ message: expect.stringMatching(/: onnx\/text_model.onnx missing$/) }]);
  });

  it('wants either a folder or a model of the hub', () => {
    const options = { revision: 'main', template: '{}', optionSeed: 1, batchSize: 1, data: {} };
    expect(zeroshotStage.validate!(options)).toHaveLength(1);
    expect(zeroshotStage.validate!({ ...options, model: MODEL, hub: 'a/b' })).toHaveLength(1);
    expect(zeroshotStage.validate!({ ...options, model: MODEL })).toEqual([]);
  });
});
