/** One vector per image from the vision tower of a Qwen2.5-VL model; the language model is not read. */

import type { RgbImage } from '../../image/load-image.ts';
import { ModelGraph } from '../../nn/model-graph.ts';
import { Program, type SessionSource } from '../../program.ts';
import type { HostTensor } from '../../tensor.ts';
import { openCheckpoint } from '../../weights/checkpoint.ts';
import { layoutKind, visionFeeds } from './batch.ts';
import type { Qwen25VLConfig } from './config.ts';
import { type ProcessedImage, processImage } from './image-processor.ts';
import { openProcessor } from './processor.ts';
import { type VisionLayoutKind, visionInputs, visionModel } from './vision.ts';
import { visionLayout } from './vision-layout.ts';

export interface ImageEmbedder {
  /** -> the mean of the image's merged units [C]. */
  embed(image: RgbImage, signal?: AbortSignal): Promise<Float32Array>;
  release(): Promise<void>;
}

/** @throws CHECKPOINT_UNREADABLE, CHECKPOINT_MISMATCH, MODEL_CONFIG_INVALID, TOKENIZER_INVALID */
export async function openImageEmbedder(source: SessionSource, checkpointDir: string): Promise<ImageEmbedder> {
  const checkpoint = openCheckpoint(checkpointDir);
  const { images: settings } = await openProcessor(checkpointDir);
  const weights = new Map(
    checkpoint.parameters
      .filter(({ name }) => name.startsWith('visual.'))
      .map(({ name }) => [name, checkpoint.readFloat32(name)]),
  );
  const programs = new Map<VisionLayoutKind, Promise<Program>>();
  const programOf = (kind: VisionLayoutKind): Promise<Program> => {
    const known = programs.get(kind) ?? compile(source, checkpoint.config, kind);
    programs.set(kind, known);
    return known;
  };
  return {
    async embed(image, signal) {
      const patches = processImage(image, settings);
      return meanUnit(await run(patches, checkpoint.config, programOf, weights, signal));
    },
    async release() {
      for (const program of programs.values()) await (await program).release();
    },
  };
}

function compile(source: SessionSource, config: Qwen25VLConfig, kind: VisionLayoutKind): Promise<Program> {
  const graph = new ModelGraph();
  const units = graph.scope('vision', () =>
    visionModel(graph, config.vision, visionInputs(graph, config.vision, kind)),
  );
  return Program.compile(source, graph, { units }, { key: `embed:${kind}:${JSON.stringify(config.vision)}` });
}

async function run(
  image: ProcessedImage,
  config: Qwen25VLConfig,
  programOf: (kind: VisionLayoutKind) => Promise<Program>,
  weights: ReadonlyMap<string, HostTensor>,
  signal: AbortSignal | undefined,
): Promise<HostTensor> {
  const layout = visionLayout([image.grid], config);
  const program = await programOf(layoutKind(layout));
  const inputs = visionFeeds(config, [image], layout);
  const feeds = Object.fromEntries(
    program.feeds.flatMap(({ name }) => {
      const feed = inputs[name] ?? weights.get(name);
      return feed === undefined ? [] : [[name, feed] as const];
    }),
  );
  return (await program.run(feeds, { signal }))['units']!;
}

/** Mean over the rows of [M, C]. */
function meanUnit({ shape, data }: HostTensor): Float32Array {
  const [rows, width] = shape as [number, number];
  const sums = new Float64Array(width);
  for (let i = 0; i < rows * width; i++) sums[i % width]! += (data as Float32Array)[i]!;
  return Float32Array.from(sums, (sum) => sum / rows);
}
