import { describe, expect, it } from 'vitest';
import { sourceOfInput } from './known-inputs.ts';

describe('sourceOfInput()', () => {
  it('says where a model, its first stage and a data set come from', () => {
    expect(sourceOfInput('../models/Qwen2.5-VL-7B-Instruct')).toContain('fr1 fetch Qwen/Qwen2.5-VL-7B-Instruct');
    expect(sourceOfInput('../models/Fine-R1-3B-Stage1')).toContain('cot_sft_3b.yaml');
    expect(sourceOfInput('../models/Fine-R1-3B')).toContain('fine_r1_3b.yaml');
    expect(sourceOfInput('../data/CUB_200_2011/images')).toContain('CUB-200-2011');
    expect(sourceOfInput('../models/clip-vit-large-patch14')).toContain('hf download Xenova/clip-vit-large-patch14 ');
    expect(sourceOfInput('../models/siglip-large-patch16-256')).toContain('Xenova/siglip-large-patch16-256 ');
    expect(sourceOfInput('../models/e5-large-v2')).toContain('Xenova/e5-large-v2 ');
  });

  it('says what training such a model takes, and what this machine has', () => {
    const takes = (gb: number) =>
      new RegExp(`training all of it takes about ${gb} GB .* \\d+ GB, this machine has \\d+ GB$`);
    expect(sourceOfInput('../models/Qwen2.5-VL-3B-Instruct')).toMatch(takes(75));
    expect(sourceOfInput('../models/Fine-R1-7B-Stage1')).toMatch(takes(166));
    expect(sourceOfInput('../models/Fine-R1-7B')).not.toContain('training');
  });

  it('knows nothing of other paths', () => {
    expect(sourceOfInput('../data/mine')).toBeUndefined();
  });
});
