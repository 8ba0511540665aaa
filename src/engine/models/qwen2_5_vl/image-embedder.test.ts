import { describe, expect, it } from 'vitest';
import { writeTinyModel } from '../../../../stages/testing/tiny-model.ts';
import { webGpuSource } from '../../../../test/helpers/device-source.ts';
import { bareSource } from '../../../../test/helpers/session-source.ts';
import { temporaryFolder } from '../../../../test/helpers/temporary-folder.ts';
import { loraParameters, mergedTensor, startAdapter } from '../../adapters/lora.ts';
import { saveAdapted } from '../../adapters/model-folder.ts';
import { linearModules } from '../../adapters/target-modules.ts';
import { Program, type SessionSource } from '../../program.ts';
import { RandomStream } from '../../random.ts';
import { openRuntime } from '../../session/open-runtime.ts';
import type { DeviceMemory } from '../../session/runtime.ts';
import type { HostTensor } from '../../tensor.ts';
import { openCheckpoint, saveCheckpoint } from '../../weights/checkpoint.ts';
import { buildBatch } from './batch.ts';
import { openImageEmbedder } from './image-embedder.ts';
import { processImage } from './image-processor.ts';
import { IMAGE_MARKER, openProcessor } from './processor.ts';
import { logProbGraph } from './training-model.ts';

describe('openImageEmbedder()', () => {
  // The embeddings of the training graph are those of transformers: training-model.test.ts.
  it.each([
    [56, 56],
    [84, 140],
  ])('gives the mean of the embeddings that the whole model reads, %d x %d', async (width, height) => {
    const dir = await temporaryFolder();
    const source = bareSource(await openRuntime());
    await writeTinyModel(await openRuntime(), dir);
    const data = Uint8Array.from({ length: width * height * 3 }, (_, i) => (i * 7919) % 251);
    const image = { width, height, data };
    const embedder = await openImageEmbedder(source, dir);
    const got = await embedder.embed(image);
    await embedder.release();

    const checkpoint = openCheckpoint(dir);
    const processor = await openProcessor(dir);
    const patches = processImage(image, processor.images);
    const messages = [{ role: 'user' as const, content: IMAGE_MARKER }];
    const { inputIds } = processor.encodeChat(messages, [patches], { addGenerationPrompt: true });
    const row = { prefix: inputIds, images: [0], branches: [{ ids: Int32Array.of(1) }] };
    const batch = buildBatch(checkpoint.config, [row], [patches]);
    const { graph, imageEmbeddings } = logProbGraph(checkpoint.config, batch.visionKind);
    const program = await Program.compile(source, graph, { units: imageEmbeddings! }, { key: `whole-${width}` });
    const feeds = Object.fromEntries(
      program.feeds.map(({ name }) => [name, batch.feeds[name] ?? checkpoint.readFloat32(name)]),
    );
    const { units } = await program.run(feeds);
    const [rows, size] = units!.shape as [number, number];
    const values = units!.data as Float32Array;
    expect(got.length).toBe(size);
    for (let c = 0; c < size; c++) {
      let sum = 0;
      for (let r = 0; r < rows; r++) sum += values[r * size + c]!;
      expect(got[c]).toBeCloseTo(sum / rows, 5);
    }
  });

  it('looks through an adapter on the vision tower', async () => {
    const runtime = await openRuntime();
    const [plain, adapted, merged] = [await temporaryFolder(), await temporaryFolder(), await temporaryFolder()];
    await writeTinyModel(runtime, plain);
    const base = openCheckpoint(plain);
    const modules = linearModules(base.parameters).filter(({ tower }) => tower !== 'text');
    const start = startAdapter(modules, { rank: 2, alpha: 8, dropout: 0, isRankStabilised: false }, 1);
    const stream = new RandomStream('embedder');
    const tensors = loraParameters(modules, start.layers).map(({ name, shape }) => {
      const data = Float32Array.from({ length: shape[0]! * shape[1]! }, () => 0.1 * stream.normal());
      return [name, { dtype: 'float32', shape, data } as const] as const;
    });
    const adapter = { ...start, find: (name: string) => new Map(tensors).get(name) };
    await saveAdapted(adapted, base, adapter, {});
    const stored = (name: string) => adapter.find(name) ?? base.read(name);
    await saveCheckpoint(merged, {
      config: base.rawConfig,
      tensors: base.parameters.map(({ name, shape }) => ({
        name,
        shape,
        load: () => mergedTensor(name, stored, adapter.layers) as HostTensor<'float32'>,
      })),
      copyFrom: plain,
    });
    const source = bareSource(runtime);
    const [base0, throughAdapter, whole] = (await Promise.all(
      [plain, adapted, merged].map((dir) => embedded(source, dir)),
    )) as [Float32Array, Float32Array, Float32Array];
    expect(throughAdapter).toEqual(whole);
    expect(throughAdapter).not.toEqual(base0);
  });

  it('keeps its weights in the memory of a device', async ({ skip }) => {
    const runtime = await openRuntime();
    const device = await webGpuSource(runtime);
    if (device === undefined) return skip();
    const dir = await temporaryFolder();
    await writeTinyModel(runtime, dir);
    let uploads = 0;
    const memory: DeviceMemory = {
      allocate: (...given) => device.memory!.allocate(...given),
      upload: (...given) => {
        uploads++;
        return device.memory!.upload(...given);
      },
      download: (...given) => device.memory!.download(...given),
    };
    const embedder = await openImageEmbedder({ ...device, memory }, dir);
    const got = await embedder.embed(PICTURE);
    const placed = uploads;
    expect(await embedder.embed(PICTURE)).toEqual(got);
    await embedder.release();
    expect(placed).toBeGreaterThan(0);
    expect(uploads).toBe(placed);
    const expected = await embedded(bareSource(runtime), dir);
    for (const [c, value] of expected.entries()) expect(got[c]).toBeCloseTo(value, 4);
  }, 120_000);
});

const PICTURE = { width: 56, height: 56, data: Uint8Array.from({ length: 56 * 56 * 3 }, (_, i) => (i * 7919) % 251) };

async function embedded(source: SessionSource, dir: string): Promise<Float32Array> {
  const embedder = await openImageEmbedder(source, dir);
  const vector = await embedder.embed(PICTURE);
  await embedder.release();
  return vector;
}
