import { describe, expect, it } from 'vitest';
import { TAPO_PRESETS } from '../../src/methods/tapo-presets.ts';
import { groupingOf } from './grouping.ts';
import type { TapoOptions } from './options.ts';
import { resolveSettings } from './settings.ts';

const grouping = (options: Partial<TapoOptions>) => {
  const all = { preset: 'dapo', set: 'sound', imitation: null, ...options } as TapoOptions;
  return groupingOf(all, resolveSettings(all));
};

/**
 * What the released code makes of R rows a step, B rows an update and n answers an image: it wants 2nR answers and fills them with
 * rows of 2n answers, or of n without a positive image. An update has 2nB answers with one, else nB.
 */
function released(rows: number, rowsPerUpdate: number, n: number, hasPositive: boolean) {
  const wanted = 2 * n * rows;
  const answersPerGroup = hasPositive ? 2 * n : n;
  return {
    groupsPerStep: wanted / answersPerGroup,
    answersPerGroup,
    updatesPerStep: wanted / (rowsPerUpdate * answersPerGroup),
  };
}

describe('groupingOf()', () => {
  const sizes = { groupsPerStep: 384, rollouts: 5, updatesPerStep: 3 };

  it('Q22: keeps groups and updates of a step without a positive image, or halves and doubles them as the released code', () => {
    expect(grouping(sizes)).toEqual({ groupsPerStep: 384, answersPerGroup: 10, updatesPerStep: 3 });
    const asReleased = released(384, 128, 5, false);
    expect(asReleased).toEqual({ groupsPerStep: 768, answersPerGroup: 5, updatesPerStep: 6 });
    expect(grouping({ ...sizes, set: 'reference' })).toEqual(asReleased);
    expect(grouping({ ...sizes, groupsWithoutPositive: 'halved' })).toEqual(asReleased);
    expect(grouping({ ...sizes, set: 'reference', groupsWithoutPositive: 'whole' })).toEqual(grouping(sizes));
  });

  it.each(['fine-r1-3b', 'fine-r1-7b'] as const)('makes the groups of the script of %s under both sets', (preset) => {
    const { groupsPerStep } = TAPO_PRESETS[preset];
    const scripted = released(groupsPerStep, groupsPerStep / 3, 5, true);
    expect(grouping({ preset })).toEqual(scripted);
    expect(grouping({ preset, set: 'reference' })).toEqual(scripted);
  });

  it('takes the size of whole groups where it is given', () => {
    expect(grouping({ ...sizes, groupSize: 8 }).answersPerGroup).toBe(8);
  });
});
