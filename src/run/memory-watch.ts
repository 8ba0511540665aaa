/**
 * How much memory the process has had since a moment: looked at four times a second, and taken from the system's own record
 * where that rose. Other stages that ran meanwhile, and what earlier ones left, count in it.
 */
const INTERVAL_MS = 250;

export class MemoryWatch implements Disposable {
  /** When the watch began. */
  readonly startBytes: number;
  readonly #recordBefore: number;
  readonly #timer: NodeJS.Timeout;
  #most: number;

  constructor(intervalMs = INTERVAL_MS) {
    this.startBytes = process.memoryUsage.rss();
    this.#most = this.startBytes;
    this.#recordBefore = highestEver();
    this.#timer = setInterval(() => this.#look(), intervalMs);
    this.#timer.unref();
  }

  /** The most so far. */
  get peakBytes(): number {
    this.#look();
    return this.#most;
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }

  #look(): void {
    const record = highestEver();
    this.#most = Math.max(this.#most, process.memoryUsage.rss(), record > this.#recordBefore ? record : 0);
  }
}

/** Since the process began. */
function highestEver(): number {
  return process.resourceUsage().maxRSS * 1024;
}
