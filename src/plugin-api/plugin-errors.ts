/** The two kinds of errors that a plugin may throw with a hint; any other error is shown as an unexpected one. */
import { Fr1Error, type SourcePosition } from '../errors/fr1-error.ts';

export interface PluginErrorOptions {
  /** What the user can do about it. */
  readonly hint?: string;
  readonly cause?: unknown;
}

/** The work failed. The run ends with exit code 1. */
export function stageFailure(message: string, options: PluginErrorOptions = {}): Fr1Error {
  return new Fr1Error('STAGE_FAILED', message, options);
}

/** What the user gave cannot be used: a row, a file, a value. The run ends with exit code 2. */
export function inputProblem(
  message: string,
  options: PluginErrorOptions & { readonly at?: Pick<SourcePosition, 'file' | 'line' | 'col'> } = {},
): Fr1Error {
  return new Fr1Error('INPUT_REJECTED', message, options);
}
