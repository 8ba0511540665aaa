import { describe, expect, it } from 'vitest';
import { ignoredSampling, samplingDefaults } from './sampling-defaults.ts';

describe('samplingDefaults()', () => {
  it('reads what Qwen2.5-VL ships', () => {
    const shipped = {
      do_sample: true,
      repetition_penalty: 1.05,
      temperature: 0.000001,
      eos_token_id: [151645, 151643],
    };
    expect(samplingDefaults('model', shipped)).toEqual({
      temperature: 0.000001,
      topP: 1,
      topK: 0,
      repetitionPenalty: 1.05,
    });
  });

  it('takes the likeliest token unless the file says to sample', () => {
    const greedy = { temperature: 0, topP: 1, topK: 0, repetitionPenalty: 1 };
    expect(samplingDefaults('model', {})).toEqual(greedy);
    expect(samplingDefaults('model', { temperature: 0.7, top_p: 0.8, top_k: 20 })).toEqual(greedy);
    const sampled = { do_sample: true, temperature: 0.7, top_p: 0.8, top_k: 20 };
    expect(samplingDefaults('model', sampled)).toEqual({ temperature: 0.7, topP: 0.8, topK: 20, repetitionPenalty: 1 });
  });

  it.each([{ repetition_penalty: 0 }, { do_sample: true, top_p: 2 }, { do_sample: true, temperature: 'warm' }])(
    'refuses %j and names the file',
    (config) => {
      expect(() => samplingDefaults('model', config)).toThrow(/generation_config\.json: \w+ is/);
    },
  );
});

describe('ignoredSampling()', () => {
  it('names what would change an answer and is not done', () => {
    const neutral = { num_beams: 1, no_repeat_ngram_size: 0, suppress_tokens: null, min_p: 0.1, max_new_tokens: 5 };
    expect(ignoredSampling(neutral)).toEqual([]);
    expect(ignoredSampling({ ...neutral, do_sample: true, num_beams: 4, suppress_tokens: [7] })).toEqual([
      'num_beams 4',
      'suppress_tokens [7]',
      'min_p 0.1',
    ]);
  });
});
