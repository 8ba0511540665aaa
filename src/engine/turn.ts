/** Turns for the event loop during a long computation, so that the terminal, progress and Ctrl-C stay alive. */
import { setImmediate as nextTurn } from 'node:timers/promises';

/** Longest time between two turns; a screen that is drawn ten times a second does not notice it. */
const TURN_EVERY_MS = 25;

/** Of the whole thread, so that a chain of short computations is one long one. */
let lastTurn = 0;

/**
 * Whether the computation should let others have a turn.
 *
 * @example
 * for (const item of items) {
 *   compute(item);
 *   if (isTurnDue()) await takeTurn();
 * }
 */
export function isTurnDue(): boolean {
  return performance.now() - lastTurn >= TURN_EVERY_MS;
}

/** Lets everything run that waits for its turn. */
export async function takeTurn(): Promise<void> {
  await nextTurn();
  lastTurn = performance.now();
}
