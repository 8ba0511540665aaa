import { describe, expect, it } from 'vitest';
import { writeTinyModel } from '../../../../stages/testing/tiny-model.ts';
import { bareSource } from '../../../../test/helpers/session-source.ts';
import { temporaryFolder } from '../../../../test/helpers/temporary-folder.ts';
import { Program } from '../../program.ts';
import { openRuntime } from '../../session/open-runtime.ts';
import { openCheckpoint } from '../../weights/checkpoint.ts';
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
});
