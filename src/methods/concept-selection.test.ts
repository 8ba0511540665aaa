import { describe, expect, it } from 'vitest';
import { informationScores, informativeConcepts } from './concept-selection.ts';

const vectors = (...rows: number[][]) => rows.map((row) => Float32Array.from(row));
const CONCEPTS = vectors([1, 0, 0], [0.6, 0.8, 0], [0, 0.6, 0.8], [0, 0, -1]);
const OWN = vectors([0.8, 0.6, 0], [0.96, 0, 0.28]);
const OTHERS = vectors([0, 1, 0], [0, 0.8, 0.6], [-0.6, 0, 0.8]);

describe('informationScores()', () => {
  it.each([
    [0.1, [-0.000807, -2.726032, -13.49465, -3.556236]],
    [0.01, [0, -22.4, -133.6, -28.693147]],
  ])('gives what torch 2.11 gives in float64 at temperature %f', (temperature, want) => {
    const got = informationScores(CONCEPTS, OWN, OTHERS, temperature);
    got.forEach((score, i) => {
      expect(Math.abs(score - want[i]!)).toBeLessThan(1e-5 * Math.max(1, Math.abs(want[i]!)));
    });
  });

  it('is 0 where there is nothing to tell an image from', () => {
    expect(informationScores(CONCEPTS, OWN, [])).toEqual([0, 0, 0, 0]);
  });
});

describe('informativeConcepts()', () => {
  it('takes those well above the mean, best first', () => {
    expect(informativeConcepts([0, 9, 0, 8, 0, 0, 0, 7, 10, 0], 9)).toEqual([8, 1, 3, 7]);
  });

  it('takes three at least and as many as asked for at most', () => {
    expect(informativeConcepts([5, 1, 2, 3, 4], 9)).toEqual([0, 4, 3]);
    expect(informativeConcepts([1, 1, 1, 1], 9)).toEqual([0, 1, 2]);
    expect(informativeConcepts([0, 9, 0, 8, 0, 0, 0, 7, 10, 0], 2)).toEqual([8, 1]);
    expect(informativeConcepts([3], 9)).toEqual([0]);
    expect(informativeConcepts([], 9)).toEqual([]);
  });
});
