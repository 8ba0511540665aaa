import { describe, expect, it } from 'vitest';
import { readThought } from './thought.ts';

/** What a teacher writes about a label beside one other candidate. */
function written(label: string, prediction = label): string {
  return [
    '<analysis>Lobed leaves.</analysis>',
    `<options>\n- Acer campestre\n- ${label}\n</options>`,
    `<comparison>\n- Acer campestre: opposite leaves\n- ${label}: alternate leaves\n</comparison>`,
    `<prediction>${prediction}</prediction>`,
  ].join('\n');
}

describe('readThought()', () => {
  const read = (text: string, label: string) => readThought(text, { label, maxCandidates: 4, language: 'latin' });

  it.each([
    ['Quercus robur', 'Quercus robur.'],
    ['Quercus sp.', 'Quercus sp.'],
    ['Quercus sp.', 'quercus sp'],
  ])('takes the label %j that is predicted as %j', (label, prediction) => {
    expect(read(written(label, prediction), label)).toMatchObject({ candidates: ['Acer campestre', label] });
  });

  it('takes no other label', () => {
    expect(read(written('Quercus robur', 'Quercus'), 'Quercus robur')).toEqual({
      problem: 'the prediction is not the label',
    });
  });
});
