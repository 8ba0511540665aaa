import { describe, expect, it } from 'vitest';
import { Fr1Errors } from '../errors/fr1-error.ts';
import { Secrets } from './secrets.ts';

const position = { file: 'p.yaml', line: 1, col: 1 };
const declared = [
  { name: 'TOKEN', optional: false, position },
  { name: 'EXTRA', optional: true, position },
];
const CANARY = 'can"ary/ 7f3?';

describe('Secrets', () => {
  it('puts values into texts at any depth, and nowhere else', () => {
    const secrets = Secrets.read(declared, { TOKEN: CANARY });
    const options = { headers: [`Bearer \${{ env.TOKEN }}`, 3], none: `\${{env.EXTRA}}`, other: `\${{ env.OTHERS }}` };
    expect(secrets.reveal(options)).toEqual({ headers: [`Bearer ${CANARY}`, 3], none: '', other: '' });
  });

  it('masks a value in plain text, JSON, addresses and base64', () => {
    const secrets = Secrets.read(declared, { TOKEN: CANARY });
    const forms = [CANARY, JSON.stringify({ a: CANARY }), encodeURIComponent(CANARY), btoa(CANARY)];
    expect(forms.map((form) => secrets.maskText(`<${form}>`))).toEqual(['<***>', '<{"a":"***"}>', '<***>', '<***==>']);
    expect(secrets.mask({ note: [`got ${CANARY}`], [CANARY]: 1 })).toEqual({ note: ['got ***'], '***': 1 });
  });

  it('masks each line of a value with several', () => {
    const secrets = Secrets.read(declared, { TOKEN: 'first line\nsecond line' });
    expect(secrets.maskText('error: second line')).toBe('error: ***');
  });

  it('tells of variables that are unset or too short without showing a value', () => {
    expect(() => Secrets.read(declared, {})).toThrow(Fr1Errors);
    expect(() => Secrets.read(declared, { TOKEN: 'q7' })).toThrow(/ENV_TOO_SHORT(?!.*q7)/);
  });
});
