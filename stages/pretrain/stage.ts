/**
 * Trains a small model from random weights on a procedural world: how models/fr1-tiny was made.
 *
 * Samples are drawn and tokenised while the previous update computes; none is stored, and each is seen once.
 */
import { loadStageSchema } from '../../src/run/load-schema.ts';
import { defineStage } from '../../src/run/stage-api.ts';
import { ATTRIBUTES } from '../../src/worlds/procedural-birds/attributes.ts';
import type { PretrainOptions } from './options.ts';

export const pretrainStage = defineStage<PretrainOptions>({
  kind: 'pretrain',
  summary: 'Trains a small vision-language model from random weights on a procedural world.',
  version: 3,
  schema: loadStageSchema(import.meta.url),
  outputs: { model: { type: 'checkpoint', description: 'the trained model with its tokenizer' } },
  metrics: ['loss', ...ATTRIBUTES.map(({ key }) => `${key}_accuracy`)],
  cosmeticOptions: ['saveEvery'],
  resources: () => ({ device: true }),
  async run(context) {
    const { runPretrain } = await import('./run.ts');
    return runPretrain(context);
  },
});
