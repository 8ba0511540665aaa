import { describe, expect, it } from 'vitest';
import { didYouMean, nearest } from './nearest.ts';

const WORDS = ['learningRate', 'epochs', 'batchSize', 'data', 'model', 'sft-7b', 'lr'];

describe('nearest()', () => {
  it.each([
    ['learningrate', 'learningRate'],
    ['learning_rate', 'learningRate'],
    ['learnigRate', 'learningRate'],
    ['epoch', 'epochs'],
    ['batch-size', 'batchSize'],
    ['dtaa', 'data'],
    ['sft_7b', 'sft-7b'],
    ['lrr', 'lr'],
  ])('takes %s for %s', (wrong, meant) => {
    expect(nearest(wrong, WORDS)).toBe(meant);
  });

  it.each(['temperature', 'x', 'seed', ''])('finds nothing near "%s"', (wrong) => {
    expect(nearest(wrong, WORDS)).toBeUndefined();
  });
});

describe('didYouMean()', () => {
  it('asks for the nearest word, else lists the known ones', () => {
    expect(didYouMean('epoch', WORDS)).toBe('did you mean "epochs"?');
    expect(didYouMean('zzz', ['a', 'b'], 'stages')).toBe('stages: a, b');
    expect(didYouMean('zzz', [])).toBeUndefined();
  });

  it('does not list more than twelve', () => {
    const many = Array.from({ length: 20 }, (_, i) => `stage${i}`);
    expect(didYouMean('zzz', many)).toMatch(/stage11, and 8 more$/);
  });
});
