import { describe, expect, it } from 'vitest';
import { DEFAULT_GROUP_FILTER, informativeGroups } from './group-filter.ts';

describe('informativeGroups()', () => {
  it('keeps the groups that are neither all right nor all wrong', () => {
    expect(informativeGroups([0, 0.1, 0.5, 0.9, 1])).toEqual([1, 2, 3]);
  });

  it('takes the bounds as exclusive', () => {
    expect(informativeGroups([0.01, 0.99, 0.0100001])).toEqual([2]);
  });

  it('Q19: drops everything when no group is informative, or keeps everything as the released code', () => {
    expect(informativeGroups([0, 1, 1])).toEqual([]);
    expect(informativeGroups([0, 1, 1], { ...DEFAULT_GROUP_FILTER, whenNoneInformative: 'keep-all' })).toEqual([
      0, 1, 2,
    ]);
  });
});
