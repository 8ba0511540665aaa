/** The stage on a real, randomly initialised model of a few thousand weights; the scoring is tested in evaluate.test.ts. */
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readPredictions } from '../../src/artifacts/predictions.ts';
import { PLAIN_SAMPLING } from '../../src/engine/generate/plain-sampling.ts';
import { parseConfig } from '../../src/engine/models/qwen2_5_vl/config.ts';
import { initialiseWeights } from '../../src/engine/models/qwen2_5_vl/initialise.ts';
import { TrainingModel } from '../../src/engine/models/qwen2_5_vl/training-model.ts';
import type { SessionSource } from '../../src/engine/program.ts';
import { openRuntime } from '../../src/engine/session/open-runtime.ts';
import type { Runtime, Session } from '../../src/engine/session/runtime.ts';
import { saveCheckpoint } from '../../src/engine/weights/checkpoint.ts';
import type { Lease } from '../../src/pool/lease.ts';
import { fixture } from '../../test/helpers/fixtures.ts';
import { bareSource } from '../../test/helpers/session-source.ts';
import { fakeArtifact, fakeContext } from '../testing/fake-context.ts';
import { openCheckpoint } from './open-checkpoint.ts';
import { evalStage } from './stage.ts';

let runtime: Runtime;
let folder: string;

beforeAll(async () => {
  runtime = await openRuntime();
  folder = mkdtempSync(path.join(tmpdir(), 'fr1-eval-stage-'));
  await makeModel(path.join(folder, 'model'));
  await makeTestSet(path.join(folder, 'seen'));
});
afterAll(async () => {
  rmSync(folder, { recursive: true, force: true });
  await runtime.close();
});

async function makeModel(target: string): Promise<void> {
  const files = fixture('tokenizer_tiny');
  const rawConfig = JSON.parse(readFileSync(path.join(files, 'config.json'), 'utf8')) as Record<string, unknown>;
  const { config, store } = new TrainingModel(bareSource(runtime), parseConfig(rawConfig));
  initialiseWeights(store, config, 1);
  mkdirSync(target);
  await saveCheckpoint(target, {
    config: rawConfig,
    tensors: store.parameters.map(({ name, shape }) => ({ name, shape, load: () => store.tensor(name) })),
    copyFrom: files,
  });
}

/** Three noisy squares. */
async function makeTestSet(target: string): Promise<void> {
  mkdirSync(path.join(target, 'images'), { recursive: true });
  const rows = [];
  for (const [i, label] of ['Robin', 'Wren', 'Gull'].entries()) {
    const raw = Uint8Array.from({ length: 56 * 56 * 3 }, (_, at) => (at * (i + 3) * 41) % 256);
    await sharp(raw, { raw: { width: 56, height: 56, channels: 3 } })
      .png()
      .toFile(path.join(target, `images/${i}.png`));
    const options = ['Robin', 'Wren', 'Gull', 'Crow'];
    rows.push({ id: `${i}`, image: `images/${i}.png`, label, question: 'Which bird is it?', options });
  }
  writeFileSync(path.join(target, 'rows.jsonl'), rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
  writeFileSync(path.join(target, 'dataset.json'), JSON.stringify({ name: 'squares', superCategory: 'bird' }));
}

async function evaluated(batchSize: number) {
  const source = bareSource(runtime);
  const lease = {
    device: { id: 'cpu', provider: source.provider, description: 'test', threads: 1 },
    runtime,
    memory: undefined,
    session: source.session,
    async [Symbol.asyncDispose]() {},
  } satisfies Lease;
  const model = fakeArtifact('checkpoint', path.join(folder, 'model'));
  const data = { seen: fakeArtifact('eval-data', path.join(folder, 'seen')) };
  const options = { model, data, prompts: 'compact', maxNewTokens: 12, batchSize } as const;
  using context = fakeContext(evalStage, options, { lease });
  const { metrics } = await evalStage.run(context);
  const { rows } = await readPredictions(context.outputs['predictions']!);
  return { metrics, rows };
}

describe('evalStage', () => {
  it('answers with a model folder, whatever the batch size', async () => {
    const alone = await evaluated(1);
    const together = await evaluated(4);
    expect(alone.rows).toHaveLength(6);
    expect(alone.rows.some(({ output }) => output.length > 0)).toBe(true);
    expect(new Set(alone.rows.map(({ output }) => output)).size).toBeGreaterThan(1);
    expect(together.rows).toEqual(alone.rows);
    expect(alone.metrics!['seen_closed']).toMatchObject({ n: 3 });
  });

  it('names the row of a picture that cannot be read', async () => {
    const broken = path.join(folder, 'seen/images/1.png');
    const intact = readFileSync(broken);
    copyFileSync(path.join(folder, 'seen/dataset.json'), broken);
    try {
      await expect(evaluated(4)).rejects.toMatchObject({
        code: 'IMAGE_UNREADABLE',
        message: expect.stringContaining(`test set "seen", row "1" (${broken})`),
      });
    } finally {
      writeFileSync(broken, intact);
    }
  });

  it('decodes as many answers together as batchSize says', async () => {
    const source = bareSource(runtime);
    const decoded: number[] = [];
    const counting: SessionSource = {
      ...source,
      async session(key, create) {
        const session = await source.session(key, create);
        const bind: Session['bind'] = (feeds, fetches) => {
          if (/:decode:/.test(key)) decoded.push(feeds['ids']!.shape[0]!);
          return session.bind(feeds, fetches);
        };
        return { ...session, inputs: session.inputs, outputs: session.outputs, bind, release: () => session.release() };
      },
    };
    const batchSize = 300;
    const pixels = { minPixels: undefined, maxPixels: undefined };
    await using model = await openCheckpoint(counting, path.join(folder, 'model'), { pixels, batchSize });
    const { inputIds, images } = await model.encode(
      'Which bird is it?',
      readFileSync(path.join(folder, 'seen/images/0.png')),
    );
    const requests = Array.from({ length: batchSize }, (_, seed) => ({ inputIds, images, seed }));
    const sampling = { ...PLAIN_SAMPLING, maxNewTokens: 2, stopTokenIds: [], bannedTokenIds: [], samplesPerRequest: 1 };
    await model.generator.generate(requests, sampling, {});
    expect(decoded).toEqual([batchSize]);
  });
});
