import { describe, expect, it } from 'vitest';
import { listSwitches, METHOD_SETS, methodSwitches } from './presets.ts';

describe('methodSwitches()', () => {
  it('gives the set with the changed switches', () => {
    expect(methodSwitches('sound', { lossNormalisation: 'micro' })).toEqual({
      ...METHOD_SETS.sound,
      lossNormalisation: 'micro',
    });
  });
});

describe('listSwitches()', () => {
  it('lists every switch once, sorted, with the sets it belongs to', () => {
    const listed = listSwitches(methodSwitches('sound', { optionOrder: 'as-shipped' }));
    expect(listed.map(({ name }) => name)).toEqual(Object.keys(METHOD_SETS.reference).sort());
    expect(listed.find(({ name }) => name === 'optionOrder')).toEqual({
      name: 'optionOrder',
      value: 'as-shipped',
      sets: ['reference'],
    });
    expect(listed.filter(({ sets }) => sets.includes('sound'))).toHaveLength(listed.length - 1);
  });

  it('tells the two sets apart in every switch', () => {
    expect(listSwitches(METHOD_SETS.sound).every(({ sets }) => sets.join() === 'sound')).toBe(true);
  });
});
