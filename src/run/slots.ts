/** A counting semaphore that serves waiters in order and lets go of those whose signal aborts. */
export class Slots {
  readonly #count: number;
  #free: number;
  readonly #waiting: { readonly places: number; grant(): void }[] = [];

  constructor(count: number) {
    this.#count = count;
    this.#free = count;
  }

  /**
   * Waits for so many places, at most all there are, and returns the function that gives them back. Who needs many is not
   * passed by later ones that need few. Rejects with the signal's reason.
   */
  async take(signal: AbortSignal, wanted = 1): Promise<() => void> {
    signal.throwIfAborted();
    const places = Math.min(wanted, this.#count);
    if (this.#waiting.length === 0 && places <= this.#free) this.#free -= places;
    else {
      await new Promise<void>((resolve, reject) => {
        const onAbort = () => {
          this.#waiting.splice(this.#waiting.indexOf(waiter), 1);
          reject(signal.reason);
          this.#serve();
        };
        const waiter = {
          places,
          grant: () => {
            signal.removeEventListener('abort', onAbort);
            resolve();
          },
        };
        signal.addEventListener('abort', onAbort, { once: true });
        this.#waiting.push(waiter);
      });
    }
    let isHeld = true;
    return () => {
      if (!isHeld) return;
      isHeld = false;
      this.#free += places;
      this.#serve();
    };
  }

  #serve(): void {
    for (let next = this.#waiting[0]; next !== undefined && next.places <= this.#free; next = this.#waiting[0]) {
      this.#waiting.shift();
      this.#free -= next.places;
      next.grant();
    }
  }
}
