import { describe, expect, it } from 'vitest';
import { listRepr, lower, scalarText, splitWords, strip } from './python-text.ts';

describe('strip()', () => {
  it('Q35: removes what Python calls white space and JavaScript does not', () => {
    expect(strip('\x1c\x1d\x1e\x1f\x85 a\u3000')).toBe('a');
  });

  it('keeps the byte order mark and the zero-width space, which Python does not count', () => {
    expect(strip('\ufeffa\u200b')).toBe('\ufeffa\u200b');
  });
});

describe('splitWords()', () => {
  it('splits at runs of white space and gives no empty words', () => {
    expect(splitWords('  BMW\u00a0 3\x85Series ')).toEqual(['BMW', '3', 'Series']);
    expect(splitWords(' \t')).toEqual([]);
  });
});

describe('lower()', () => {
  // CPython 3.12: 'ΟΔΟΣ İ'.lower() == 'οδος i̇'
  it('maps a final sigma and a dotted capital I as Python does', () => {
    expect(lower('ΟΔΟΣ İ')).toBe('οδος i̇');
  });
});

describe('scalarText()', () => {
  it('writes null and booleans as Python does', () => {
    expect([null, true, false, 146, 1.5, 'x'].map(scalarText)).toEqual(['None', 'True', 'False', '146', '1.5', 'x']);
  });
});

describe('listRepr()', () => {
  // CPython 3.12: repr(["A", "colt's foot", 'say "hi"', '''both ' and "''', 'tab\t\\ \x85\u200b\U000e0001é'])
  it('quotes and escapes as Python does', () => {
    expect(listRepr(['A', "colt's foot", 'say "hi"', 'both \' and "', 'tab\t\\ \x85\u200b\u{e0001}é'])).toBe(
      String.raw`['A', "colt's foot", 'say "hi"', 'both \' and "', 'tab\t\\ \x85\u200b\U000e0001é']`,
    );
  });

  it('writes an empty list', () => {
    expect(listRepr([])).toBe('[]');
  });
});
