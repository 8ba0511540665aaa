/** Hands out turns in the order in which they were asked for; one holder at a time. */
export class Turns {
  #last: Promise<void> = Promise.resolve();

  /**
   * Runs `work` when everything asked for earlier has ended.
   *
   * A signal that fires during the wait rejects at once; `work` is then never called.
   */
  take<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    if (signal?.aborted) return Promise.reject(signal.reason);
    const before = this.#last;
    let started = false;
    const result = before.then(() => {
      if (signal?.aborted) throw signal.reason;
      started = true;
      return work();
    });
    this.#last = result.then(ignore, ignore);
    if (signal === undefined) return result;
    return new Promise((resolve, reject) => {
      const onAbort = () => {
        if (!started) reject(signal.reason);
      };
      signal.addEventListener('abort', onAbort, { once: true });
      result.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
    });
  }

  /** Settles when everything asked for so far has ended. */
  idle(): Promise<void> {
    return this.#last;
  }
}

function ignore(): void {}
