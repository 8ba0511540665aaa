import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { openSafetensors } from '../engine/weights/safetensors.ts';
import { groupNormalisedAdvantages, leaveOneOutAdvantages, whitenedAdvantages } from './advantages.ts';

/** Computed by the reference advantage functions (torch 2.11.0) on two groups of five; see the fixture's origin there. */
function fixture() {
  const path = fileURLToPath(new URL('../../test/fixtures/fine-r1/tapo_loss.safetensors', import.meta.url));
  const file = openSafetensors(path);
  const firstColumn = (name: string) => {
    const { data, shape } = file.read(name);
    return Array.from({ length: shape[0]! }, (_, row) => Number(data[row * (shape[1] ?? 1)]));
  };
  return {
    scores: firstColumn('group_scores'),
    groups: firstColumn('group_index'),
    normalised: firstColumn('group_advantages'),
    leaveOneOut: firstColumn('rloo_advantages'),
  };
}

describe('groupNormalisedAdvantages()', () => {
  it('agrees with the reference to 1e-6', () => {
    const { scores, groups, normalised } = fixture();
    const advantages = groupNormalisedAdvantages(scores, groups);
    for (const [index, expected] of normalised.entries())
      expect(Math.abs(advantages[index]! - expected)).toBeLessThan(1e-6);
  });

  it('does not depend on the order of the responses', () => {
    const interleaved = groupNormalisedAdvantages([1, 5, 0, 7], [0, 1, 0, 1]);
    const sorted = groupNormalisedAdvantages([1, 0, 5, 7], [0, 0, 1, 1]);
    expect([...interleaved]).toEqual([sorted[0], sorted[2], sorted[1], sorted[3]]);
  });

  it('gives zeros to a group of equal scores', () => {
    expect([...groupNormalisedAdvantages([0.9, 0.9, 0.9], [4, 4, 4])].map(Math.abs)).toEqual([0, 0, 0]);
  });

  it('refuses a group of one', () => {
    expect(() => groupNormalisedAdvantages([1, 0, 1], [0, 0, 1])).toThrow(/group 1 has one response/);
  });

  it('refuses labels that do not fit the scores', () => {
    expect(() => groupNormalisedAdvantages([1, 0], [0])).toThrow(/do not fit/);
  });
});

describe('leaveOneOutAdvantages()', () => {
  it('agrees with the reference to 1e-6', () => {
    const { scores, groups, leaveOneOut } = fixture();
    const advantages = leaveOneOutAdvantages(scores, groups);
    for (const [index, expected] of leaveOneOut.entries())
      expect(Math.abs(advantages[index]! - expected)).toBeLessThan(1e-6);
  });

  it('refuses a group of one', () => {
    expect(() => leaveOneOutAdvantages([1], [0])).toThrow(/one response/);
  });
});

describe('whitenedAdvantages()', () => {
  it('whitens over tokens as torch does', () => {
    // torch 2.11.0, float64: x = repeat_interleave(scores, lengths); (x - x.mean()) * rsqrt(x.var() + 1e-8)
    const advantages = whitenedAdvantages([1, 0.1, 0.9, 0, 0.1], [3, 10, 1, 7, 4]);
    const expected = [2.296228012, -0.326367428, 2.004828449, -0.617766927, -0.326367428];
    expected.forEach((value, i) => {
      expect(Math.abs(advantages[i]! - value)).toBeLessThan(1e-7);
    });
  });

  it('gives zeros for equal scores and fails on lists of different lengths', () => {
    expect([...whitenedAdvantages([0.5, 0.5], [3, 4])]).toEqual([0, 0]);
    expect(() => whitenedAdvantages([1, 2], [1])).toThrow(expect.objectContaining({ code: 'SHAPE_MISMATCH' }));
  });
});
