import type { SamplingOptions } from './types.ts';

/** Samples as the model's own distribution says: nothing cut, nothing penalised, nothing banned. */
export const PLAIN_SAMPLING = {
  temperature: 1,
  topP: 1,
  topK: 0,
  repetitionPenalty: 1,
  stopTokenIds: [],
  bannedTokenIds: [],
  samplesPerRequest: 1,
} as const satisfies Omit<SamplingOptions, 'maxNewTokens'>;
