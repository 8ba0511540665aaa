import { describe, expect, it } from 'vitest';
import { conceptSelector, featuresOf } from './concepts.ts';

describe('featuresOf()', () => {
  it('takes a feature a line without marks of lists and headings', () => {
    expect(featuresOf('Features:\n- **red** crown\n2. a long bill\n\n * grey tail ')).toEqual([
      'red crown',
      'a long bill',
      'grey tail',
    ]);
  });
});

describe('conceptSelector()', () => {
  const finch = {
    label: 'Finch',
    captions: ['red crown\nfeathers\nblue sky', 'a red crown\nfeathers', 'red crown\ntwo legs'],
  };
  const gull = { label: 'Gull', captions: ['feathers\ngrey wings', 'feathers\ntwo legs'] };
  const select = conceptSelector([finch, gull]);

  it('prefers what several captions say and other classes do not, and says nothing twice', () => {
    expect(select(finch, 2)).toEqual(['red crown', 'blue sky']);
    expect(select(finch, 9)).toEqual(['red crown', 'blue sky', 'feathers', 'two legs']);
    expect(select(gull, 1)).toEqual(['grey wings']);
  });
});
