import { describe, expect, it } from 'vitest';
import { accuracyMetrics, percent, percentText, type ScoredItem } from './accuracies.ts';

const item = (split: string, mode: ScoredItem['mode'], correct: boolean, strictlyCorrect = false): ScoredItem => ({
  split,
  mode,
  correct,
  strictlyCorrect,
});

describe('accuracyMetrics()', () => {
  it('weighs test sets equally in the mean of a mode, whatever their sizes', async () => {
    const metrics = await accuracyMetrics([
      item('seen', 'closed', true, true),
      item('seen', 'closed', true),
      item('seen', 'closed', true),
      item('seen', 'closed', false),
      item('unseen', 'closed', false),
    ]);
    expect(metrics['closed']).toMatchObject({ value: 0.375, n: 5 });
    expect(metrics['closed_strict']!.value).toBe(0.125);
    expect(metrics['seen_closed']!.value).toBe(0.75);
    expect(Object.keys(metrics)).toHaveLength(6);
  });

  it('gives the same interval whenever the outcomes are the same', async () => {
    const items = Array.from({ length: 50 }, (_, i) => item('seen', 'open', i % 3 === 0));
    expect(await accuracyMetrics(items)).toEqual(await accuracyMetrics([...items]));
  });
});

describe('percentText()', () => {
  it('writes one decimal and no minus zero', () => {
    expect(percentText({ value: 0.7249, low: 0.7, high: 1, n: 3 })).toBe('72.5 [70.0, 100.0]');
    expect(percent(-0.0001)).toBe('0.0');
  });
});
