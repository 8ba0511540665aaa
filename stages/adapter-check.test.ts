import { describe, expect, it } from 'vitest';
import type { AdapterChoice } from '../src/engine/adapters/choice.ts';
import { fixture } from '../test/helpers/fixtures.ts';
import { checkAdapter } from './adapter-check.ts';

const ALL = { vision: true, projector: true, text: true };

function problems(adapter: AdapterChoice, trainable = ALL): string[] {
  const found: string[] = [];
  const model = { path: fixture('qwen2_5_vl', 'tiny_tied') };
  checkAdapter({ model, adapter, trainable }, { problem: ({ message }) => found.push(message) });
  return found;
}

describe('checkAdapter()', () => {
  it('is content with layers that are there, and with none asked for', () => {
    expect(problems({ kind: 'full' })).toEqual([]);
    expect(problems({ kind: 'lora', targetModules: ['q_proj', 'attn.qkv'] })).toEqual([]);
    expect(problems({ kind: 'lora', targetModules: '.*layers\\.[01]\\..*up_proj' })).toEqual([]);
  });

  it('tells layers that are not there or not trained, broken patterns, and an adapter that is missing', () => {
    const text = { vision: false, projector: false, text: true };
    expect(problems({ kind: 'lora', targetModules: '.*nothing.*' })).toEqual([expect.stringContaining('.*nothing.*')]);
    expect(problems({ kind: 'lora', targetModules: ['qkv'] }, text)).toEqual([
      expect.stringContaining('no linear layer of the parts that are trained is called "qkv"'),
    ]);
    expect(problems({ kind: 'lora', targetModules: '(' })).toEqual([expect.stringContaining('no regular expression')]);
    expect(problems({ kind: 'continue' })).toEqual([expect.stringContaining('has no adapter')]);
  });
});
