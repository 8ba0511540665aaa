/**
 * How long each stage kept the event loop from turning, at worst: the time in which the terminal stood still and Ctrl-C
 * was not heard. Stages that run side by side are all charged, and so is the time in which the machine was busy with
 * other processes.
 */
import { monitorEventLoopDelay } from 'node:perf_hooks';
import type { RunEvent } from '../run/events.ts';

const RESOLUTION_MS = 10;

export class LoopWatch {
  readonly #histogram = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  readonly #running = new Set<string>();
  readonly #longestMs = new Map<string, number>();

  constructor() {
    this.#histogram.enable();
  }

  onEvent(event: RunEvent): void {
    if (event.type === 'stage-started') {
      this.#settle();
      this.#running.add(event.stage);
    } else if (event.type === 'stage-finished' || event.type === 'stage-failed' || event.type === 'stage-stopped') {
      // What held the loop until now is noticed at its next turn.
      setTimeout(() => {
        this.#settle();
        this.#running.delete(event.stage);
      }, RESOLUTION_MS + 1).unref();
    }
  }

  /** One line per stage that ran, in the order of their starts. */
  lines(): string[] {
    this.#settle();
    this.#histogram.disable();
    return [...this.#longestMs].map(
      ([stage, ms]) => `longest stall of the event loop in ${stage}: ${Math.round(ms)} ms`,
    );
  }

  #settle(): void {
    // The histogram counts from one timer to the next, so it starts at the resolution; it is empty after a reset.
    const ms = Math.max(0, this.#histogram.max / 1e6 - RESOLUTION_MS);
    for (const stage of this.#running) this.#longestMs.set(stage, Math.max(this.#longestMs.get(stage) ?? 0, ms));
    this.#histogram.reset();
  }
}
