/** One vector per image from the vision tower of a Qwen2.5-VL model; the language model is not read. */

import { mergedTensor } from '../../adapters/lora.ts';
import { type ModelFolder, openModelFolder } from '../../adapters/model-folder.ts';
import type { RgbImage } from '../../image/load-image.ts';
import { type LoraLayer, ModelGraph } from '../../nn/model-graph.ts';
import { Program, type SessionSource } from '../../program.ts';
import type { HostTensor } from '../../tensor.ts';
import { toFloat32 } from '../../weights/convert.ts';
import { MemoryWeights, ModelWeights } from '../../weights/model-weights.ts';
import { layoutKind, visionFeeds } from './batch.ts';
import { processImage } from './image-processor.ts';
import { openProcessor } from './processor.ts';
import { type VisionLayoutKind, visionInputs, visionModel } from './vision.ts';
import { visionLayout } from './vision-layout.ts';

export interface ImageEmbedder {
  /** -> the mean of the image's merged units [C]. */
  embed(image: RgbImage, signal?: AbortSignal): Promise<Float32Array>;
  release(): Promise<void>;
}

/**
 * @throws CHECKPOINT_UNREADABLE, CHECKPOINT_MISMATCH, MODEL_CONFIG_INVALID, TOKENIZER_INVALID
 * @throws ADAPTER_UNREADABLE, ADAPTER_MISMATCH
 */
export async function openImageEmbedder(source: SessionSource, dir: string): Promise<ImageEmbedder> {
  const folder = openModelFolder(dir);
  const { config } = folder.base;
  const { images: settings } = await openProcessor(folder.base.dir);
  const weights = visionWeights(folder);
  const programs = new Map<VisionLayoutKind, Promise<Program>>();

  const compile = (kind: VisionLayoutKind): Promise<Program> => {
    const graph = new ModelGraph();
    const inputs = visionInputs(graph, config.vision, kind);
    const units = graph.scope('vision', () => visionModel(graph, config.vision, inputs));
    return Program.compile(source, graph, { units }, { key: `embed:${kind}:${JSON.stringify(config.vision)}` });
  };
  return {
    async embed(image, signal) {
      const patches = processImage(image, settings);
      const layout = visionLayout([patches.grid], config);
      const kind = layoutKind(layout);
      const compiled = programs.get(kind) ?? compile(kind);
      programs.set(kind, compiled);
      const program = await compiled;
      const inputs = visionFeeds(config, [patches], layout);
      const find = await weights.finder(source);
      const feeds = Object.fromEntries(
        program.feeds.flatMap(({ name }) => {
          const feed = inputs[name] ?? find(name);
          return feed === undefined ? [] : [[name, feed]];
        }),
      );
      return meanUnit((await program.run(feeds, { signal }))['units']!);
    },
    async release() {
      for (const program of programs.values()) await (await program).release();
    },
  };
}

/** Those of the vision tower and the projector in float32, with the adapter in them where there is one. */
function visionWeights({ base, adapter }: ModelFolder): ModelWeights {
  const layers = adapter?.layers ?? new Map<string, LoraLayer>();
  const stored = (name: string) => adapter?.find(name) ?? base.read(name);
  const tensors = base.parameters
    .filter(({ tower }) => tower !== 'text')
    .map(({ name, shape }) => {
      const data = toFloat32(mergedTensor(name, stored, layers));
      return [name, { dtype: 'float32', shape, data } as const] as const;
    });
  return ModelWeights.frozen(new MemoryWeights(tensors));
}

/** Mean over the rows of [M, C]. */
function meanUnit({ shape, data }: HostTensor): Float32Array {
  const [rows, width] = shape as [number, number];
  const sums = new Float64Array(width);
  for (let i = 0; i < rows * width; i++) sums[i % width]! += (data as Float32Array)[i]!;
  return Float32Array.from(sums, (sum) => sum / rows);
}
