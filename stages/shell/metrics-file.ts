/** The JSON file in which a command leaves its metrics: `{ "accuracy": 0.61, "loss": { "value": 1.2, "low": 1, "high": 1.4 } }`. */
import { existsSync } from 'node:fs';
import { isRecord, readJsonObject } from '../../src/artifacts/json-lines.ts';
import { Fr1Error } from '../../src/errors/fr1-error.ts';
import type { Metric } from '../../src/run/stage-api.ts';

/**
 * The metrics in the file; none when the command wrote none.
 *
 * @throws STAGE_RESULT_INVALID when the file is not of that form or lacks one of `wanted`
 */
export async function readMetricsFile(
  file: string,
  wanted: readonly string[],
): Promise<Readonly<Record<string, Metric>>> {
  const content = existsSync(file) ? await readJsonObject(file).catch(refuse) : {};
  const metrics = Object.fromEntries(Object.entries(content).map(([name, value]) => [name, metricOf(name, value)]));
  const missing = wanted.filter((name) => !(name in metrics));
  if (missing.length > 0) {
    throw new Fr1Error('STAGE_RESULT_INVALID', `the command did not write the metric ${missing.join(', ')}`, {
      hint: 'it must write them as JSON to the file that FR1_METRICS names: {"name": 0.5}',
    });
  }
  return metrics;
}

function metricOf(name: string, value: unknown): Metric {
  const { value: number, low, high, n } = isRecord(value) ? value : { value };
  const isGiven = (each: unknown) => each === undefined || typeof each === 'number';
  if (typeof number !== 'number' || ![low, high, n].every(isGiven)) {
    throw new Fr1Error('STAGE_RESULT_INVALID', `the command wrote no number as metric "${name}"`, {
      hint: 'a metric is a number, or { "value": 0.5, "low": 0.4, "high": 0.6, "n": 100 }',
    });
  }
  const bounds = Object.entries({ low, high, n }).filter((entry) => entry[1] !== undefined);
  return { value: number, ...(Object.fromEntries(bounds) as Omit<Metric, 'value'>) };
}

function refuse(cause: unknown): never {
  throw new Fr1Error('STAGE_RESULT_INVALID', 'the command left a metrics file that cannot be read', { cause });
}
