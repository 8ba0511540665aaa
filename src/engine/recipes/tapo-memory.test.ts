import { describe, expect, it } from 'vitest';
import { type TapoSize, tapoBatches } from './tapo-memory.ts';

const size: TapoSize = {
  prompt: { tokens: 100, images: [[1, 8, 8]] },
  groupsPerStep: 8,
  updatesPerStep: 2,
  views: 2,
  answersPerView: 4,
  onAnchor: false,
  hasNegative: true,
  hasReference: false,
  answerTokens: 20,
  microBatchTokens: 1000,
  generationBatch: 64,
  hiddenSize: 64,
  heads: 4,
};

describe('tapoBatches()', () => {
  it('asks for all answers of a step at once', () => {
    expect(tapoBatches(size).generation).toEqual({
      prompt: size.prompt,
      prompts: 16,
      samplesPerPrompt: 4,
      maxNewTokens: 20,
      limits: { maxBatch: 64 },
    });
  });

  it('trains on rows of one prompt and its answers, as many as go into a micro-batch', () => {
    // 99 tokens of the prompt and four whole answers make 179, of which five go into a micro-batch; with answers of 15 tokens
    // rows have 159, and six such rows make more.
    const { training } = tapoBatches(size);
    expect(training).toEqual({
      rows: 6,
      tokens: 159,
      targets: 6 * 60,
      images: Array.from({ length: 6 }, () => [1, 8, 8]),
      accumulates: true,
    });
    // Eight answers of 18 tokens on the negative image.
    const { logProbs } = tapoBatches({ ...size, updatesPerStep: 1 });
    expect(logProbs).toMatchObject({ rows: 4, tokens: 243, targets: 4 * 144 });
  });

  it('reads nothing where no log-probabilities are asked for', () => {
    const { training, logProbs } = tapoBatches({ ...size, updatesPerStep: 1, hasNegative: false, groupsPerStep: 1 });
    expect(logProbs).toBeUndefined();
    expect(training).toMatchObject({ rows: 2, tokens: 179, accumulates: false });
  });

  it('lets one answer be longer than a micro-batch', () => {
    expect(tapoBatches({ ...size, answerTokens: 2000 }).training).toMatchObject({ rows: 1, tokens: 2099 });
  });
});
