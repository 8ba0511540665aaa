import { describe, expect, it } from 'vitest';
import type { AdapterChoice } from '../src/engine/adapters/choice.ts';
import { fixture } from '../test/helpers/fixtures.ts';
import { checkAdapter } from './adapter-check.ts';

const ALL = { vision: true, projector: true, text: true };
const TEXT = { vision: false, projector: false, text: true };

function check(adapter: AdapterChoice, trainable = ALL) {
  return () => checkAdapter({ model: { path: fixture('qwen2_5_vl', 'tiny_tied') }, adapter, trainable });
}

describe('checkAdapter()', () => {
  it('is content with layers that are there, and with none asked for', () => {
    check({ kind: 'full' })();
    check({ kind: 'lora', targetModules: ['q_proj', 'attn.qkv'] })();
    check({ kind: 'lora', targetModules: '.*layers\\.[01]\\..*up_proj' })();
  });

  it('refuses layers that are not there or not trained, broken patterns, and an adapter that is missing', () => {
    expect(check({ kind: 'lora', targetModules: '.*nothing.*' })).toThrow('.*nothing.*');
    expect(check({ kind: 'lora', targetModules: ['qkv'] }, TEXT)).toThrow(
      'no linear layer of the parts that are trained is called "qkv"',
    );
    expect(check({ kind: 'lora', targetModules: '(' })).toThrow('no regular expression');
    expect(check({ kind: 'continue' })).toThrow('has no adapter');
  });

  it.each([
    [['q_proj', 'attention'], '/adapter/targetModules/1'],
    ['.*nothing.*', '/adapter/targetModules'],
    ['(', '/adapter/targetModules'],
  ])('points to the name or pattern at fault in %j', (targetModules, pointer) => {
    expect(check({ kind: 'lora', targetModules })).toThrow(expect.objectContaining({ pointer }));
  });
});
