import { describe, expect, it } from 'vitest';
import type { TextEmbedder } from '../../src/engine/embedding/text-embedder.ts';
import { informationSelector } from './informative-concepts.ts';

/** A space with an axis for each of these words; every text also has a little of one that all share. */
const AXES = ['red', 'grey', 'bill', 'tail', 'sky'];

function embedder(value?: number): TextEmbedder {
  return {
    name: 'words',
    embed: async (texts) =>
      texts.map((text) => {
        const vector = Float32Array.from([...AXES.map((word) => Number(text.includes(word))), 0.1]);
        const length = Math.hypot(...vector);
        return vector.map((each) => value ?? each / length);
      }),
    async [Symbol.asyncDispose]() {},
  };
}

const finch = { label: 'Finch', captions: ['red crown\nblue sky\nbill', 'Red crown\nsky\nsome tail', 'red back\nsky'] };
const gull = { label: 'Gull', captions: ['grey wings\nsky', 'grey tail\nsky'] };
const settings = { temperature: 0.1, signal: new AbortController().signal };

describe('informationSelector()', () => {
  it('prefers what the captions of an image say and those of others do not, each line once', async () => {
    const select = await informationSelector([finch, gull], embedder(), settings);
    const chosen = await select(finch, 9);
    expect(chosen.slice(0, 2).sort()).toEqual(['red back', 'red crown']);
    expect(chosen).not.toContain('blue sky');
    expect(await select(finch, 1)).toHaveLength(1);
    expect((await select(gull, 2)).every((feature) => feature.includes('grey'))).toBe(true);
  });

  it('refuses vectors that are not numbers', async () => {
    await expect(informationSelector([finch, gull], embedder(Number.NaN), settings)).rejects.toMatchObject({
      code: 'SCORES_NOT_FINITE',
    });
  });
});
