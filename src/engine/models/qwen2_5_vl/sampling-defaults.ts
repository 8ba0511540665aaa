/** How a model folder wants its model to answer. */
import { join } from 'node:path';
import { Fr1Error } from '../../../errors/fr1-error.ts';
import type { SamplingOptions } from '../../generate/types.ts';

export type SamplingDefaults = Pick<SamplingOptions, 'temperature' | 'topP' | 'topK' | 'repetitionPenalty'>;

/**
 * The values that generation_config.json gives; what it leaves out changes nothing, where transformers would sample among
 * the 50 likeliest tokens. Without `do_sample` the likeliest token is taken, as there.
 *
 * @throws TOKENIZER_INVALID for values that are no numbers in their range
 */
export function samplingDefaults(folder: string, config: Readonly<Record<string, unknown>>): SamplingDefaults {
  const number = (key: string, otherwise: number, isValid: (value: number) => boolean): number => {
    const value = config[key] ?? otherwise;
    if (typeof value === 'number' && isValid(value)) return value;
    throw new Fr1Error(
      'TOKENIZER_INVALID',
      `${join(folder, 'generation_config.json')}: ${key} is ${JSON.stringify(value)}`,
    );
  };
  const samples = config['do_sample'] === true;
  const isTemperature = (value: number) => value >= 0 && value < Number.POSITIVE_INFINITY;
  return {
    temperature: samples ? number('temperature', 1, isTemperature) : 0,
    topP: samples ? number('top_p', 1, (value) => value > 0 && value <= 1) : 1,
    topK: samples ? number('top_k', 0, (value) => Number.isInteger(value) && value >= 0) : 0,
    repetitionPenalty: number('repetition_penalty', 1, (value) => value > 0 && value < Number.POSITIVE_INFINITY),
  };
}
