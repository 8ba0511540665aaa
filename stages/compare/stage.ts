/** `compare`: which of several models is better, and whether the difference is more than chance. */
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { readPredictions } from '../../src/artifacts/predictions.ts';
import type { MetricsFile } from '../../src/artifacts/types.ts';
import { loadStageSchema } from '../../src/run/load-schema.ts';
import { defineStage } from '../../src/run/stage-api.ts';
import { compare, type NamedPredictions } from './compare.ts';
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
  async run(context) {
    const runs: NamedPredictions[] = [];
    for (const { name, predictions } of context.options.runs) {
      runs.push({ name, predictions: await readPredictions(predictions.path) });
    }
    const { metrics, tables } = await compare(runs, context.options.metric);
    const file: MetricsFile = { version: 1, metrics };
    await writeFile(path.join(context.outputs['metrics']!, 'metrics.json'), `${JSON.stringify(file, null, 2)}\n`);
    return { metrics, tables };
  },
});
