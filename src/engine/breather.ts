/** Turns for the event loop during a long computation, so that the terminal, progress and Ctrl-C stay alive. */
import { setImmediate as nextTurn } from 'node:timers/promises';

/** Longest time between two turns; a frame that is shown ten times a second does not notice it. */
const TURN_EVERY_MS = 25;

/**
 * @example
 * const breather = new Breather();
 * for (const item of items) {
 *   compute(item);
 *   if (breather.isDue()) await breather.breathe();
 * }
 */
export class Breather {
  #since = performance.now();

  isDue(): boolean {
    return performance.now() - this.#since >= TURN_EVERY_MS;
  }

  /** Lets everything run that waits for its turn. */
  async breathe(): Promise<void> {
    await nextTurn();
    this.#since = performance.now();
  }
}
