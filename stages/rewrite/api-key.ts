/** Where the key of an endpoint is looked for. */
import { Fr1Error } from '../../src/errors/fr1-error.ts';

/** The variable that holds the key where none is named. */
export const DEFAULT_KEY_ENV = 'OPENAI_API_KEY';

/**
 * The name of the variable that holds the key; undefined for a server that is asked without one.
 *
 * @throws TEACHER_REFUSED without a key where the endpoint is OpenAI's
 */
export function checkKey({
  baseUrl,
  apiKeyEnv = DEFAULT_KEY_ENV,
}: {
  readonly baseUrl?: string | undefined;
  readonly apiKeyEnv?: string | undefined;
}): string | undefined {
  if (process.env[apiKeyEnv]) return apiKeyEnv;
  if (baseUrl !== undefined) return undefined;
  throw new Fr1Error('TEACHER_REFUSED', `the environment variable ${apiKeyEnv} holds no key`, {
    hint: `set ${apiKeyEnv}, name another variable as teacher.apiKeyEnv, or give the baseUrl of a server that needs none`,
  });
}
