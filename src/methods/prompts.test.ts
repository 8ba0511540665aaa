import { describe, expect, it } from 'vitest';
import { orderOptions, PROMPTS, promptOf, renderPrompt } from './prompts.ts';

const item = { question: 'What bird is this?', options: ['Robin', "Say's Phoebe", 'Wren', 'Gull'] };

describe('renderPrompt()', () => {
  it('Q10: writes every named prompt as its version fixes it', () => {
    const rendered = Object.keys(PROMPTS).map((name) => [name, renderPrompt(name as keyof typeof PROMPTS, item)]);
    expect(Object.fromEntries(rendered)).toMatchInlineSnapshot(`
      {
        "compact/closed@1": "What bird is this? Options: Robin, Say's Phoebe, Wren, Gull.",
        "compact/open@1": "What bird is this?",
        "compact/rl@1": "What bird is this?",
        "fine-r1/answer-only@1": "Given the question: What bird is this?.
       This is a fine-grained question, so you need to output fine-grained categories, such as specific animal species or car, airplane model. Output the final answer in <answer> </answer> tags. The response format should be as follows: <answer> Your answer </answer>. Please follow this format exactly.",
        "fine-r1/closed@1": "Given the question: What bird is this?, based on the options provided in ['Robin', "Say's Phoebe", 'Wren', 'Gull'], output the thinking process in <think> </think> and final choice in <answer> </answer> tags. The response format should be: <think>...</think> <answer>choice</answer>.",
        "fine-r1/open@1": "Given the question: What bird is this?. This is a fine-grained question. Output reasoning in <think></think> and the final answer in <answer></answer>.",
        "fine-r1/rl@1": "What bird is this?

      You first think through the reasoning process as an internal monologue, enclosed within <think> </think> tags. Then, provide your final answer enclosed within <answer> </answer> tags.",
      }
    `);
  });

  it('trims the problem of the reinforcement prompt', () => {
    expect(renderPrompt('fine-r1/rl@1', { question: '\n What? \n', options: [] })).toMatch(/^What\?\n\nYou first/);
  });
});

describe('promptOf()', () => {
  it('names the prompt of a family', () => {
    expect(promptOf('compact', 'open')).toBe('compact/open@1');
    expect(promptOf('fine-r1', 'rl')).toBe('fine-r1/rl@1');
  });
});

describe('orderOptions()', () => {
  it('keeps the shipped order when asked', () => {
    expect(orderOptions(item.options, 'as-shipped', 1, 'a')).toEqual(item.options);
  });

  it('gives an item the same order every time and other items other orders', () => {
    expect(orderOptions(item.options, 'shuffled', 1, 'a')).toEqual(orderOptions(item.options, 'shuffled', 1, 'a'));
    const orders = Array.from({ length: 50 }, (_, i) => orderOptions(item.options, 'shuffled', 1, `i${i}`).join());
    expect(new Set(orders).size).toBeGreaterThan(10);
  });

  it('puts the first option in each place equally often', () => {
    const counts = [0, 0, 0, 0];
    for (let i = 0; i < 4000; i++) counts[orderOptions(item.options, 'shuffled', 7, `i${i}`).indexOf('Robin')]!++;
    // 1000 expected; 4.5 standard deviations of a binomial(4000, 1/4) are 123.
    for (const count of counts) expect(Math.abs(count - 1000)).toBeLessThan(123);
  });
});
