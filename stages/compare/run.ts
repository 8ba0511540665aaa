/** Reads the predictions of each model and writes what their comparison says. */
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { readPredictions } from '../../src/artifacts/predictions.ts';
import type { MetricsFile } from '../../src/artifacts/types.ts';
import type { StageContext, StageResult } from '../../src/run/stage-api.ts';
import { compare, type NamedPredictions } from './compare.ts';
import type { CompareOptions } from './options.ts';

export async function runCompare(context: StageContext<CompareOptions>): Promise<StageResult> {
  const runs: NamedPredictions[] = [];
  for (const { name, predictions } of context.options.runs) {
    runs.push({ name, predictions: await readPredictions(predictions.path) });
  }
  const { metrics, tables } = await compare(runs, context.options.metric);
  const file: MetricsFile = { version: 1, metrics };
  await writeFile(path.join(context.outputs['metrics']!, 'metrics.json'), `${JSON.stringify(file, null, 2)}\n`);
  return { metrics, tables };
}
