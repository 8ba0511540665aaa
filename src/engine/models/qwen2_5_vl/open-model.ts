/** A model folder ready to answer: config, tokenizer, weights in memory with the adapter beside them, a generator. */

import { loraNames } from '../../adapters/lora.ts';
import { openModelFolder } from '../../adapters/model-folder.ts';
import type { Generator } from '../../generate/types.ts';
import type { SessionSource } from '../../program.ts';
import { JoinedWeights, MemoryWeights, ModelWeights } from '../../weights/model-weights.ts';
import type { Qwen25VLConfig } from './config.ts';
import { defaultExecution, type Execution } from './execution.ts';
import { frozenWeights } from './frozen-weights.ts';
import { createGenerator, type GeneratorOptions } from './generator.ts';
import { openProcessor, type Processor } from './processor.ts';

export interface VisionLanguageModel {
  readonly config: Qwen25VLConfig;
  readonly processor: Processor;
  readonly weights: ModelWeights;
  readonly execution: Execution;
  readonly generator: Generator;
  release(): Promise<void>;
}

/**
 * Opens a model folder for generation; weights are widened to float32, those of large models stay in their files.
 *
 * @throws CHECKPOINT_UNREADABLE, CHECKPOINT_MISMATCH, MODEL_CONFIG_INVALID, TOKENIZER_INVALID
 * @throws ADAPTER_UNREADABLE, ADAPTER_MISMATCH
 */
export async function openVisionLanguageModel(
  source: SessionSource,
  dir: string,
  options: GeneratorOptions = {},
): Promise<VisionLanguageModel> {
  const { base, adapter } = openModelFolder(dir);
  const processor = await openProcessor(base.dir);
  const layers = adapter?.layers ?? new Map();
  const matrices = [...layers.keys()].flatMap((module) => Object.values(loraNames(module)));
  const names = base.parameters.map(({ name }) => name);
  const execution = options.execution ?? defaultExecution(base.config);
  const weights = ModelWeights.frozen(
    new JoinedWeights(
      frozenWeights(base, names, execution, source.provider),
      new MemoryWeights(matrices.map((name) => [name, adapter!.find(name)!])),
    ),
    layers,
  );
  const generator = createGenerator(source, base.config, weights, options);
  return { config: base.config, execution, processor, weights, generator, release: () => generator.release() };
}
