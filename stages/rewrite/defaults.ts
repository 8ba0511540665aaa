import { DEFAULT_KEY_ENV } from './api-key.ts';

/** Options of teachers that look at images, where they are not given. The schema has none, so that a stray one is noticed. */
export const DEFAULTS = {
  captions: 3,
  concepts: 8,
  candidates: 4,
  attempts: 4,
  candidateOrder: 'shuffled',
  language: 'latin',
} as const;

export const TEACHER_DEFAULTS = { apiKeyEnv: DEFAULT_KEY_ENV, maxNewTokens: 1536, temperature: 0.8 } as const;
