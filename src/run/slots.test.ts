import { describe, expect, it } from 'vitest';
import { Slots } from './slots.ts';

const never = new AbortController().signal;
const tick = () => new Promise((resolve) => setImmediate(resolve));

describe('Slots', () => {
  it('serves in order, and does not let small requests pass a large one', async () => {
    const slots = new Slots(2);
    const order: string[] = [];
    const first = await slots.take(never);
    const ask = (name: string, places: number) =>
      slots.take(never, places).then((giveBack) => {
        order.push(name);
        return giveBack;
      });
    const [large, small] = [ask('large', 2), ask('small', 1)];
    await tick();
    expect(order).toEqual([]);
    first();
    first();
    const giveBack = await large;
    await tick();
    expect(order).toEqual(['large']);
    giveBack();
    await small;
    expect(order).toEqual(['large', 'small']);
  });

  it('takes a request for more places than there are as one for all', async () => {
    const slots = new Slots(2);
    (await slots.take(never, 9))();
    await slots.take(never, 2);
  });

  it('lets those behind go on when the wait of a large request is aborted', async () => {
    const slots = new Slots(2);
    await slots.take(never);
    const controller = new AbortController();
    const large = slots.take(controller.signal, 2);
    const small = slots.take(never);
    controller.abort(new Error('stop'));
    await expect(large).rejects.toThrow('stop');
    await small;
  });
});
