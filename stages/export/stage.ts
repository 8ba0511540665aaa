/** A model as other tools load it: transformers, vLLM, PEFT. */
import { loadStageSchema } from '../../src/run/load-schema.ts';
import { defineStage } from '../../src/run/stage-api.ts';
import type { ExportOptions } from './options.ts';

export const exportStage = defineStage<ExportOptions>({
  kind: 'export',
  summary: 'Writes a model for other tools: merges its adapter, chooses element type and file sizes.',
  version: 1,
  schema: loadStageSchema(import.meta.url),
  outputs: {
    model: { type: 'checkpoint', description: 'the model with its tokenizer, processor and generation files' },
  },
  resources: () => ({ device: false }),
  async run(context) {
    const { runExport } = await import('./run.ts');
    return runExport(context);
  },
});
