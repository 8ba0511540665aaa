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

/** Settings that change what is said but are not offered, with the values under which they change nothing. */
const NOT_OFFERED: Readonly<Record<string, readonly unknown[]>> = {
  num_beams: [1],
  penalty_alpha: [0],
  no_repeat_ngram_size: [0],
  encoder_no_repeat_ngram_size: [0],
  encoder_repetition_penalty: [1],
  min_length: [0],
  min_new_tokens: [0],
  bad_words_ids: [],
  suppress_tokens: [],
  begin_suppress_tokens: [],
  forced_bos_token_id: [],
  forced_eos_token_id: [],
  sequence_bias: [],
  exponential_decay_length_penalty: [],
  guidance_scale: [1],
};
const NOT_OFFERED_IN_SAMPLING: typeof NOT_OFFERED = {
  min_p: [0],
  typical_p: [1],
  epsilon_cutoff: [0],
  eta_cutoff: [0],
};

/** What generation_config.json asks for beyond {@link samplingDefaults}, e.g. `num_beams 4`; transformers would do it. */
export function ignoredSampling(config: Readonly<Record<string, unknown>>): string[] {
  const known = { ...NOT_OFFERED, ...(config['do_sample'] === true ? NOT_OFFERED_IN_SAMPLING : {}) };
  return Object.entries(known).flatMap(([key, neutral]) => {
    const value = config[key];
    return value === undefined || value === null || neutral.includes(value) ? [] : [`${key} ${JSON.stringify(value)}`];
  });
}
