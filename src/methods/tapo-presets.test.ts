import { describe, expect, it } from 'vitest';
import { NOISE_ANNEALING, noiseStrength, stepsOfEpochs } from './tapo-presets.ts';

describe('stepsOfEpochs()', () => {
  it('gives the numbers of the released scripts', () => {
    expect(stepsOfEpochs(10, 1808, 384)).toBe(40);
    expect(stepsOfEpochs(5, 1808, 192)).toBe(45);
    expect(stepsOfEpochs(3, 5, 16)).toBe(3);
  });
});

describe('noiseStrength()', () => {
  it('falls from its full strength over its middle to almost none', () => {
    expect(noiseStrength(0, 60, NOISE_ANNEALING)).toBeCloseTo(500, 4);
    expect(noiseStrength(40, 60, NOISE_ANNEALING)).toBeCloseTo(250, 6);
    expect(noiseStrength(60, 60, NOISE_ANNEALING)).toBeLessThan(0.1);
  });
});
