/** What a model wrote in answer to one question. */
export interface FinishedOutput {
  readonly output: string;
  readonly finishReason: 'stop' | 'length';
}

/** The output in a line of the log; null where there is none. */
export function finishedOutputOf({ output, finishReason }: Readonly<Record<string, unknown>>): FinishedOutput | null {
  if (typeof output !== 'string' || (finishReason !== 'stop' && finishReason !== 'length')) return null;
  return { output, finishReason };
}
