/** Errors as data: what events and run.json say about a failure. */
import { Fr1Error, Fr1Errors } from '../errors/fr1-error.ts';
import type { ErrorRecord } from './events.ts';

export function errorRecordOf(error: unknown): ErrorRecord {
  if (error instanceof Fr1Errors && error.errors[0]) {
    return errorRecordOf(error.errors[0]);
  }
  if (error instanceof Fr1Error) {
    const { code, message, hint, at } = error;
    return { code, message, hint, at, causes: causesOf(error) };
  }
  return { code: 'STAGE_FAILED', message: messageOf(error), causes: causesOf(error), stack: stackOf(error) };
}

function causesOf(error: unknown): string[] | undefined {
  const causes: string[] = [];
  for (let cause = inner(error); cause !== undefined && causes.length < 10; cause = inner(cause)) {
    causes.push(messageOf(cause));
  }
  return causes.length > 0 ? causes : undefined;
}

function inner(error: unknown): unknown {
  return error instanceof Error ? error.cause : undefined;
}

function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.name === 'Error' || error instanceof Fr1Error ? error.message : `${error.name}: ${error.message}`;
}

function stackOf(error: unknown): string | undefined {
  return error instanceof Error ? error.stack : undefined;
}
