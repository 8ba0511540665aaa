/** `zeroshot`: the contrastive baseline, CLIP or SigLIP through transformers.js. */
import { loadStageSchema } from '../../src/run/load-schema.ts';
import { defineStage, type OptionProblem } from '../../src/run/stage-api.ts';
import type { ZeroshotOptions } from './options.ts';

export const zeroshotStage = defineStage<ZeroshotOptions>({
  kind: 'zeroshot',
  summary: 'Names test images with a contrastive model (CLIP, SigLIP) and scores its closed-world accuracy.',
  version: 1,
  schema: loadStageSchema(import.meta.url),
  outputs: {
    predictions: {
      type: 'predictions',
      description: 'The nearest of the offered labels for every item, as of closed-world eval.',
    },
    metrics: {
      type: 'metrics',
      description: 'Accuracies among the offered labels and among all of a test set, with 95 % intervals.',
    },
  },
  resources: () => ({ device: true }),
  validate({ model, hub }) {
    const problems: OptionProblem[] = [];
    if ((model === undefined) === (hub === undefined)) {
      problems.push({
        pointer: model === undefined ? '' : '/hub',
        message: 'either model or hub must be given, and not both',
        hint: 'model is a local folder, hub a model of the Hugging Face hub such as Xenova/clip-vit-large-patch14',
      });
    }
    return problems;
  },
  async check(context) {
    const { checkZeroshot } = await import('./check.ts');
    await checkZeroshot(context);
  },
  async run(context) {
    const { nameImages } = await import('./name-images.ts');
    return nameImages(context);
  },
});
