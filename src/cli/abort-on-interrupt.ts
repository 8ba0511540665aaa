/** Ctrl-C as an abort signal: the first aborts it, the second ends the process at once. */
import type { CliIo } from './io.ts';

export interface Interrupt extends AsyncDisposable {
  readonly signal: AbortSignal;
}

/** Dispose of it when the command is done, so that Ctrl-C has its usual meaning again. */
export function abortOnInterrupt(io: CliIo): Interrupt {
  const controller = new AbortController();
  const ignore = io.onInterrupt(() => {
    if (controller.signal.aborted) io.exitNow(130);
    controller.abort(new DOMException('the command was interrupted', 'AbortError'));
  });
  return { signal: controller.signal, [Symbol.asyncDispose]: async () => ignore() };
}
