import { describe, expect, it } from 'vitest';
import { COMMAND_LINE, exitCodeOf, formatError, wantsStack } from './format.ts';
import { Fr1Error, Fr1Errors } from './fr1-error.ts';

const AT = { file: 'p.yaml', line: 41, col: 13, endCol: 19, lineText: '    needs: [sft_7b]' };
const NEED = new Fr1Error('STAGE_UNKNOWN_NEED', 'stage "tapo" needs "sft_7b", but no stage has that name', {
  at: AT,
  hint: 'did you mean "sft-7b"?',
  cause: new RangeError('the cause'),
});

/** The line below the code, as it is marked. */
function marked(at: Partial<typeof AT>): string {
  const text = formatError(new Fr1Error('VALUE_TYPE', 'm', { at: { ...AT, ...at } }));
  const [, , line = '', carets = ''] = text.split('\n');
  const start = carets.indexOf('^');
  return line.slice(start, carets.lastIndexOf('^') + 1);
}

describe('formatError()', () => {
  it('prints place, code, message, the marked line and the hint', () => {
    expect(formatError(NEED)).toBe(
      [
        'p.yaml:41:13  error[STAGE_UNKNOWN_NEED]',
        '  stage "tapo" needs "sft_7b", but no stage has that name',
        '   41 |     needs: [sft_7b]',
        '      |             ^^^^^^',
        '  hint: did you mean "sft-7b"?',
      ].join('\n'),
    );
  });

  it('prints no colours and no stack unless asked', () => {
    expect(formatError(NEED)).not.toContain('\u001b');
    expect(formatError(NEED)).not.toMatch(/\bat |the cause/);
    expect(formatError(new Error('boom'))).not.toContain('format.test');
  });

  it('adds colours that leave the text alone', () => {
    const coloured = formatError(NEED, { colour: true });
    expect(coloured).toContain('\u001b[31m^^^^^^\u001b[39m');
    // biome-ignore lint/suspicious/noControlCharactersInRegex: removes colours.
    expect(coloured.replace(/\u001b\[\d+m/g, '')).toBe(formatError(NEED));
  });

  it('adds stack and causes when asked', () => {
    const text = formatError(NEED, { stack: true });
    expect(text).toContain('format.test.ts');
    expect(text).toContain('caused by RangeError: the cause');
  });

  it('prints several errors one after the other and counts them', () => {
    const text = formatError(new Fr1Errors([NEED, new Fr1Error('KEY_MISSING', 'second\nline')]));
    expect(text.split('\n').slice(5)).toEqual(['', 'error[KEY_MISSING]', '  second', '  line', '', '2 errors']);
  });

  it('marks the span even in long lines, at their ends and after tabs', () => {
    const long = `${'x'.repeat(300)}HERE${'y'.repeat(300)}`;
    expect(marked({ lineText: long, col: 301, endCol: 305 })).toBe('HERE');
    expect(marked({ lineText: long, col: 1, endCol: 4 })).toBe('xxx');
    expect(marked({ lineText: `${long}END`, col: 605, endCol: 608 })).toBe('END');
    expect(marked({ lineText: '\tkey: 1', col: 2, endCol: 5 })).toBe('key');
    expect(marked({ lineText: 'key', col: 1, endCol: 99 })).toBe('key');
  });

  it('shows an argument without a line number', () => {
    const at = { file: COMMAND_LINE, line: 1, col: 12, endCol: 13, lineText: '--set seed=x' };
    expect(formatError(new Fr1Error('VALUE_TYPE', 'm', { at })).split('\n')).toEqual([
      'command line  error[VALUE_TYPE]',
      '  m',
      '      | --set seed=x',
      '      |            ^',
    ]);
  });

  it('keeps control characters of user text away from the terminal', () => {
    const hostile = 'a\u001b[2Jb\u202ec\r\u0007';
    const at = { ...AT, file: hostile, lineText: hostile };
    const text = formatError(new Fr1Error('VALUE_TYPE', hostile, { at, hint: hostile }));
    // biome-ignore lint/suspicious/noControlCharactersInRegex: these must not be there.
    expect(text).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u202e]/);
    expect(text).toContain('a\ufffd[2Jb\ufffdc\ufffd\ufffd');
  });

  it('prints a foreign error as unexpected', () => {
    expect(formatError(new TypeError('boom'))).toBe(
      'error\n  boom\n  hint: this is unexpected; FR1_DEBUG=1 shows where it happened',
    );
    expect(formatError('just text')).toContain('just text');
  });
});

describe('exitCodeOf()', () => {
  it('is that of the catalogue, the highest of several, 130 after an abort, else 1', () => {
    expect(exitCodeOf(NEED)).toBe(2);
    expect(exitCodeOf(new Fr1Error('RUNTIME_RUN_FAILED', 'm'))).toBe(1);
    expect(exitCodeOf(new Fr1Errors([new Fr1Error('RUNTIME_RUN_FAILED', 'm'), NEED]))).toBe(2);
    expect(exitCodeOf(AbortSignal.abort().reason)).toBe(130);
    expect(exitCodeOf(new TypeError('boom'))).toBe(1);
    expect(exitCodeOf(undefined)).toBe(1);
  });
});

describe('wantsStack()', () => {
  it('follows FR1_DEBUG', () => {
    expect([{}, { FR1_DEBUG: '0' }, { FR1_DEBUG: '' }].some(wantsStack)).toBe(false);
    expect([{ FR1_DEBUG: '1' }, { FR1_DEBUG: '4' }].every(wantsStack)).toBe(true);
  });
});
