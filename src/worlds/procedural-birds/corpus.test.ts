import { describe, expect, it } from 'vitest';
import { baseMessages, baseSample } from './corpus.ts';
import { QUESTIONS } from './questions.ts';
import { differingAttribute, speciesNamed } from './species.ts';

const SAMPLES = Array.from({ length: 3000 }, (_, index) => baseMessages(1, index).messages);

describe('baseMessages()', () => {
  it('gives chats of one to three turns with one image before the first', () => {
    for (const messages of SAMPLES) {
      expect([2, 4, 6]).toContain(messages.length);
      expect(messages.map((message) => message.role)).toEqual(
        messages.map((_, i) => (i % 2 === 0 ? 'user' : 'assistant')),
      );
      expect(messages[0]!.content.startsWith('<image>')).toBe(true);
      expect(
        messages
          .map((message) => message.content)
          .join('')
          .split('<image>').length,
      ).toBe(2);
    }
  });

  it('never answers in the form of the task and never asks its questions', () => {
    for (const { content, role } of SAMPLES.flat()) {
      if (role === 'assistant' && /<think>|<answer>/.test(content)) expect(content).toMatch(/^Again: /);
      expect(content).not.toMatch(/<think>.*?<\/think>\s*<answer>/s);
      expect(QUESTIONS).not.toContain(content.replace('<image>', ''));
    }
  });

  it('offers options that all differ in one and the same attribute, so that no list gives the answer away', () => {
    const lists = SAMPLES.flat().flatMap(({ content }) => /Options: (.+)\.$/.exec(content)?.[1] ?? []);
    expect(lists.length).toBeGreaterThan(100);
    for (const list of lists) {
      const species = list.split(', ').map((name) => speciesNamed(name)!);
      const attributes = species.flatMap((a) => species.filter((b) => b !== a).map((b) => differingAttribute(a, b)));
      expect(species.length).toBeGreaterThanOrEqual(2);
      expect(new Set(attributes).size).toBe(1);
    }
  });

  it('is fixed by seed and index', () => {
    expect(baseMessages(1, 7)).toEqual(baseMessages(1, 7));
    expect(baseMessages(1, 7)).not.toEqual(baseMessages(2, 7));
    expect(baseMessages(1, 7)).not.toEqual(baseMessages(1, 8));
  });
});

describe('baseSample()', () => {
  it('is fixed by seed and index, pixels included', async () => {
    const [a, b] = [await baseSample(3, 5), await baseSample(3, 5)];
    expect(a.messages).toEqual(b.messages);
    expect(Buffer.compare(a.pixels, b.pixels)).toBe(0);
  });
});
