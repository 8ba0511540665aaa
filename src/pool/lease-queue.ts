/** Who waits for which devices, in the order of asking. Knows neither sessions nor other processes. */

interface Waiter<Item> {
  readonly candidates: readonly Item[];
  grant(items: readonly Item[]): void;
  reject(reason: unknown): void;
}

export class LeaseQueue<Item> {
  readonly #free: Set<Item>;
  readonly #waiting: Waiter<Item>[] = [];

  constructor(items: Iterable<Item>) {
    this.#free = new Set(items);
  }

  /**
   * Waits until one of the candidates is free, and takes all of them that are: the caller puts back, by `release`, those
   * that it does not want. Who waits longer goes first; who wants another item may pass. Rejects with the signal's reason.
   */
  take(candidates: readonly Item[], signal?: AbortSignal): Promise<readonly Item[]> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const onAbort = () => {
        this.#waiting.splice(this.#waiting.indexOf(waiter), 1);
        reject(signal!.reason);
      };
      const waiter: Waiter<Item> = {
        candidates,
        grant: (items) => {
          signal?.removeEventListener('abort', onAbort);
          resolve(items);
        },
        reject: (reason) => {
          signal?.removeEventListener('abort', onAbort);
          reject(reason);
        },
      };
      signal?.addEventListener('abort', onAbort, { once: true });
      this.#waiting.push(waiter);
      this.#serve();
    });
  }

  release(items: readonly Item[]): void {
    for (const item of items) this.#free.add(item);
    this.#serve();
  }

  rejectAll(reason: unknown): void {
    for (const waiter of this.#waiting.splice(0)) waiter.reject(reason);
  }

  #serve(): void {
    for (const waiter of [...this.#waiting]) {
      const granted = waiter.candidates.filter((item) => this.#free.has(item));
      if (granted.length === 0) continue;
      for (const item of granted) this.#free.delete(item);
      this.#waiting.splice(this.#waiting.indexOf(waiter), 1);
      waiter.grant(granted);
    }
  }
}
