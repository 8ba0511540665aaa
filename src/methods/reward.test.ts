import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { rewardHacks, scoreResponse, tightenBrackets } from './reward.ts';

interface Case {
  readonly id: number;
  readonly name: string;
  readonly response: string;
  readonly ground_truth: string;
  readonly format_weight?: number;
  readonly expected: { readonly overall: number; readonly format: number; readonly accuracy: number };
}

/** Outputs of the reference reward function, one per tricky string; see `about` in the file. */
const { cases } = JSON.parse(
  readFileSync(new URL('../../test/fixtures/fine-r1/reward_cases.json', import.meta.url), 'utf8'),
) as { cases: Case[] };

describe('scoreResponse()', () => {
  it.each(cases)('agrees with the reference reward on case $id, $name', (golden) => {
    const reward = scoreResponse(golden.response, golden.ground_truth, golden.format_weight);
    expect(reward.format).toBe(golden.expected.format);
    expect(reward.accuracy).toBe(golden.expected.accuracy);
    expect(reward.overall).toBeCloseTo(golden.expected.overall, 12);
  });

  it('Q35: covers all 258 reference cases', () => {
    expect(cases).toHaveLength(258);
  });

  it('takes linear time on a long run of white space', () => {
    const response = `<think>${' '.repeat(300_000)}x</think><answer>${'\n'.repeat(300_000)}robin</answer>`;
    const start = performance.now();
    expect(scoreResponse(response, 'Robin').overall).toBe(1);
    expect(performance.now() - start).toBeLessThan(1000);
  });
});

describe('scoreResponse() by the rule exact', () => {
  const exact = (response: string, label = 'Robin') => scoreResponse(response, label, 0.1, 'exact');

  it.each(['<think>x</think><answer>Robin</answer>', '<think>x</think>\n<answer> robin </answer>'])(
    'rewards %j, which is the label in the right form',
    (response) => expect(exact(response)).toEqual({ overall: 1, format: 1, accuracy: 1 }),
  );

  it.each([
    '<think>x</think><answer>Robin, Canary or Wren</answer>',
    '<think>x</think><answer>Robin.</think><answer>Canary</answer>',
    '<think>x</think><answer>Robin</answer><answer>Canary</answer>',
    '<think>x</think><think>y</think><answer>Robin</answer>',
  ])('Q3: does not reward %j, where the released rule, containment, does', (response) => {
    expect(scoreResponse(response, 'Robin').accuracy).toBe(1);
    expect(exact(response).accuracy).toBe(0);
  });

  it('rewards a right answer without a thought for its answer alone', () => {
    expect(exact('<answer>Robin</answer>')).toEqual({ overall: 0.9, format: 0, accuracy: 1 });
  });

  it('rewards a label with a slash, white space around which is taken away on both sides', () => {
    expect(exact('<think>x</think><answer>F / A-18</answer>', 'F / A-18').accuracy).toBe(1);
  });
});

describe('tightenBrackets()', () => {
  it('leaves text without brackets alone', () => {
    expect(tightenBrackets('  a b ')).toBe('  a b ');
  });
});

describe('rewardHacks()', () => {
  it('counts the labels that an answer lists', () => {
    const hacks = rewardHacks('<think>x</think><answer>Robin, canary or Wren</answer>', ['robin', 'Canary', 'Gull']);
    expect(hacks).toEqual({ answerLength: 21, labelsInAnswer: 2 });
  });

  it('finds nothing in a response without an answer', () => {
    expect(rewardHacks('robin', ['robin'])).toEqual({ answerLength: 0, labelsInAnswer: 0 });
  });
});
