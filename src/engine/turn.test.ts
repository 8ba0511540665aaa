import { describe, expect, it } from 'vitest';
import { isTurnDue, takeTurn } from './turn.ts';

function hold(ms: number): void {
  const until = performance.now() + ms;
  while (performance.now() < until);
}

describe('takeTurn()', () => {
  it('comes due across a chain of short computations that never let the event loop turn', async () => {
    const compute = async () => {
      hold(10);
      if (isTurnDue()) await takeTurn();
    };
    let turns = 0;
    const count = () => {
      turns++;
      pending = setImmediate(count);
    };
    let pending = setImmediate(count);
    for (let i = 0; i < 20; i++) await compute();
    clearImmediate(pending);
    expect(turns).toBeGreaterThanOrEqual(4);
  });

  it('is not due again right after a turn', async () => {
    await takeTurn();
    expect(isTurnDue()).toBe(false);
  });
});
