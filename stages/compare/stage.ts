/** `compare`: which of several models is better, and whether the difference is more than chance. */
import { loadStageSchema } from '../../src/run/load-schema.ts';
import { defineStage } from '../../src/run/stage-api.ts';
import { repeatedNames } from '../run-names.ts';
import type { CompareOptions } from './options.ts';

export const compareStage = defineStage<CompareOptions>({
  kind: 'compare',
  summary: 'Compares the accuracies of several models on the same test items, with paired tests.',
  version: 1,
  schema: loadStageSchema(import.meta.url),
  outputs: {
    metrics: { type: 'metrics', description: 'Accuracies, differences with 95 % intervals, and p-values.' },
  },
  resources: () => ({ device: false }),
  validate: repeatedNames,
  async run(context) {
    const { runCompare } = await import('./run.ts');
    return runCompare(context);
  },
});
