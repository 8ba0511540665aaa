import { describe, expect, it } from 'vitest';
import type { Expectation } from '../config/types.ts';
import { checkExpectations, upperTail } from './expectations.ts';

const position = { file: 'p.yaml', line: 1, col: 1 };
const isMet = (gate: Partial<Expectation>, value: number | undefined, others = {}) =>
  checkExpectations(
    [{ metric: 'm', position, ...gate }],
    value === undefined ? {} : { m: { value, low: value - 0.03, high: value + 0.03 } },
    () => others,
  )[0]!;

describe('checkExpectations()', () => {
  it.each<[Partial<Expectation>, number | undefined, boolean]>([
    [{ atLeast: 0.5 }, 0.5, true],
    [{ atLeast: 0.5 }, 0.49, false],
    [{ atMost: 0.5 }, 0.5, true],
    [{ atMost: 0.5 }, 0.51, false],
    [{ within: { of: 0.5, tolerance: 0.02 } }, 0.48, true],
    [{ within: { of: 0.5, tolerance: 0.02 } }, 0.53, false],
    [{ atLeast: 0.1, atMost: 0.4 }, 0.5, false],
    [{ atLeast: 0 }, undefined, false],
  ])('holds %j against %s: %s', (gate, value, met) => {
    expect(isMet(gate, value).met).toBe(met);
  });

  const better = { stage: 'sft', metric: 'm', by: 0, significance: 0.05, direction: 'higher' as const };

  it('tests whether one metric is better than another, with the errors that their intervals state', () => {
    const other = { m: { value: 0.5, low: 0.47, high: 0.53 } };
    // Both have a standard error of 0.0153, their difference one of 0.0216: 0.05 is 2.31 of these, 0.03 1.39.
    expect(isMet({ betterThan: better }, 0.55, other)).toMatchObject({
      met: true,
      betterThan: { p: expect.closeTo(0.01045, 5) },
    });
    expect(isMet({ betterThan: better }, 0.53, other)).toMatchObject({
      met: false,
      betterThan: { p: expect.closeTo(0.0829, 3) },
    });
    expect(isMet({ betterThan: { ...better, by: 0.02 } }, 0.55, other).met).toBe(false);
    expect(isMet({ betterThan: { ...better, direction: 'lower' } }, 0.45, other).met).toBe(true);
    expect(isMet({ betterThan: { ...better, significance: 0.001 } }, 0.55, other).met).toBe(false);
  });

  it('takes the error of a share from n, and a bare number as exact', () => {
    const gate = { metric: 'm', position, betterThan: better };
    const p = (m: object, other: object) =>
      checkExpectations([gate], { m: m as never }, () => ({ m: other as never }))[0]!.betterThan!.p;
    // sqrt(0.25 / 100 * 2) = 0.0707; 0.1 is 1.414 of these.
    expect(p({ value: 0.5, n: 100 }, { value: 0.4, n: 100 })).toBeCloseTo(1 - 0.9236, 2);
    expect(p({ value: 2 }, { value: 1 })).toBe(0);
    expect(p({ value: 1 }, { value: 1 })).toBe(1);
  });

  it('is not met when the other stage has no such metric', () => {
    expect(isMet({ betterThan: better }, 0.9)).toMatchObject({ met: false, betterThan: { p: null, other: null } });
  });
});

describe('upperTail()', () => {
  // Reference: tables of the standard normal distribution.
  it.each([
    [0, 0.5],
    [1, 0.1586552539],
    [1.959963985, 0.025],
    [-1, 0.8413447461],
    [4, 0.0000316712],
  ])('of %s is %s', (z, expected) => {
    expect(upperTail(z)).toBeCloseTo(expected, 6);
  });
});
