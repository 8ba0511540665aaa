import { describe, expect, it } from 'vitest';
import { baseMessages, baseSample } from './corpus.ts';
import { QUESTIONS } from './questions.ts';
import { describe as describeSpecies, speciesNamed } from './species.ts';
import { BASE_SPECIES } from './split.ts';

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

  it('never names the bird in the image and never offers names to choose from', () => {
    let names = 0;
    for (let index = 0; index < 3000; index++) {
      const { species, messages } = baseMessages(2, index);
      const text = messages.map(({ content }) => content).join('\n');
      expect(text).not.toMatch(/option.*:/i);
      for (const { role, content } of messages) {
        if (role !== 'assistant' || speciesNamed(content.slice(0, -1)) === undefined) continue;
        names++;
        // Such a reply follows from the description in its own question, which is of a species drawn apart.
        const ask = messages[messages.findIndex((message) => message.content === content) - 1]!.content;
        expect(ask).toContain(describeSpecies(speciesNamed(content.slice(0, -1))!));
      }
      expect(BASE_SPECIES).toContain(species);
    }
    expect(names).toBeGreaterThan(300);
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
