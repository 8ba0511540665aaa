import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { answerSpan, firstAnswer } from './answer.ts';
import { scoreClosedWorld } from './closed-world.ts';
import { relativeSimilarity, scoreOpenWorld } from './open-world.ts';
import { scalarText } from './python-text.ts';

interface Case {
  readonly id: number;
  readonly name: string;
  readonly mode: 'closed' | 'open';
  readonly image_path: string;
  readonly ground_truth: string | number | null;
  readonly options?: readonly string[];
  readonly model_output: string;
  readonly expected: { readonly parsed_answer: string | null; readonly correct: boolean; readonly standard?: string };
}

/** Outputs of the reference evaluation, one item per run; see `about` in the file. */
const { cases } = JSON.parse(
  readFileSync(new URL('../../test/fixtures/fine-r1/eval_cases.json', import.meta.url), 'utf8'),
) as { cases: Case[] };
const closed = cases.filter((golden) => golden.mode === 'closed');
const open = cases.filter((golden) => golden.mode === 'open');

const AS_PUBLISHED = { fallback: 'whole-output', emptyCarLabel: 'matches-anything' } as const;
const SOUND = { fallback: 'none', emptyCarLabel: 'whole-label' } as const;
const BIRD = { kind: 'super-category', word: 'bird' } as const;

it('covers all 274 reference cases', () => {
  expect(closed.length + open.length).toBe(274);
});

describe('scoreClosedWorld()', () => {
  it.each(closed)('agrees with the reference on case $id, $name', (golden) => {
    const score = scoreClosedWorld({
      output: golden.model_output,
      label: scalarText(golden.ground_truth),
      options: golden.options ?? [],
    });
    expect({ parsed_answer: score.answer, correct: score.correct }).toEqual(golden.expected);
  });

  const options = ['petunia', 'Mexican Petunia', 'rose', 'iris'];
  const strict = (answer: string, label = 'petunia', offered = options) =>
    scoreClosedWorld({ output: `<think>t</think><answer>${answer}</answer>`, label, options: offered });

  it('Q3: counts an answer that lists the options as wrong strictly, or as right by the released rule, containment', () => {
    expect(strict('petunia, rose or iris')).toMatchObject({ correct: true, strictlyCorrect: false });
  });

  it('counts a longer option that contains the label as wrong strictly', () => {
    expect(strict('Mexican petunia')).toMatchObject({ correct: true, strictlyCorrect: false });
  });

  it('ignores case, underscores and outer white space in the strict comparison', () => {
    expect(strict(' mexican_PETUNIA\n', 'Mexican Petunia')).toMatchObject({ correct: true, strictlyCorrect: true });
  });

  it('denies a strict hit when two options read the same', () => {
    expect(strict('petunia', 'petunia', ['petunia', 'Petunia', 'rose', 'iris']).strictlyCorrect).toBe(false);
  });
});

describe('scoreOpenWorld()', () => {
  it.each(open)('agrees with the reference on case $id, $name', (golden) => {
    const score = scoreOpenWorld(
      {
        output: golden.model_output,
        label: scalarText(golden.ground_truth),
        standardFrom: { kind: 'path', imagePath: golden.image_path },
      },
      AS_PUBLISHED,
    );
    expect({ parsed_answer: score.answer, standard: score.standardWord, correct: score.correct }).toEqual(
      golden.expected,
    );
  });

  it('Q5: does not score a thought that mentions the label, or does as the released evaluation', () => {
    const item = { output: '<think>maybe a robin</think>', label: 'Robin', standardFrom: BIRD };
    expect(scoreOpenWorld(item, AS_PUBLISHED)).toMatchObject({ correct: true, strictlyCorrect: false });
    expect(scoreOpenWorld(item, SOUND)).toMatchObject({ correct: false, strictlyCorrect: false });
  });

  it('denies a strict hit to several answers', () => {
    const item = {
      output: '<answer>robin</answer> or <answer>wren</answer>',
      label: 'Robin',
      standardFrom: BIRD,
    };
    expect(scoreOpenWorld(item, SOUND)).toMatchObject({ correct: true, strictlyCorrect: false });
  });

  it('Q6: compares a car label of two words as a whole, or as the empty text as the released evaluation', () => {
    const item = {
      output: '<answer>anything</answer>',
      label: 'Tesla 2012',
      standardFrom: { kind: 'super-category', word: 'car' } as const,
    };
    expect(scoreOpenWorld(item, AS_PUBLISHED).correct).toBe(true);
    expect(scoreOpenWorld(item, SOUND).correct).toBe(false);
    expect(scoreOpenWorld({ ...item, output: '<answer>a tesla 2012</answer>' }, SOUND).correct).toBe(true);
  });

  it('Q4: takes the super-category from the data set, or from the path as the released evaluation', () => {
    const item = { output: '<answer>robin</answer>', label: 'Robin' };
    const byPath = (imagePath: string) =>
      scoreOpenWorld({ ...item, standardFrom: { kind: 'path', imagePath } }, AS_PUBLISHED).standardWord;
    expect(byPath('bird_200/images/1.jpg')).toBe('object');
    expect(byPath('/home/cars/bird_200/images/1.jpg')).toBe('car');
    expect(scoreOpenWorld({ ...item, standardFrom: BIRD }, SOUND).standardWord).toBe('bird');
  });

  it('scores no empty label without an answer', () => {
    const item = { output: 'x', label: '', standardFrom: BIRD };
    expect(scoreOpenWorld(item, SOUND).correct).toBe(false);
  });
});

describe('relativeSimilarity()', () => {
  const table: Record<string, number> = { 'answer|label': 0.9, 'bird|label': 0.6, 'far|label': 0.2, 'same|label': 1 };
  const similarity = async (a: string, b: string) => table[`${a}|${b}`]!;

  it('rescales by what the super-category reaches', async () => {
    expect(await relativeSimilarity('answer', 'label', 'bird', similarity)).toBeCloseTo(0.75, 12);
  });

  it('is never below 0', async () => {
    expect(await relativeSimilarity('far', 'label', 'bird', similarity)).toBe(0);
  });

  it('is 0 where the super-category equals the label', async () => {
    expect(await relativeSimilarity('answer', 'label', 'same', similarity)).toBe(0);
  });
});

describe('answer extraction', () => {
  const text = '<answer> a </answer> b <answer>c</answer>';

  it('takes the first pair for the reward and the whole span for the evaluation', () => {
    expect(firstAnswer(text)).toBe('a');
    expect(answerSpan(text)).toBe('a </answer> b <answer>c');
  });

  it('finds none when the closing tag comes first', () => {
    expect(firstAnswer('</answer>a<answer>')).toBeNull();
    expect(answerSpan('</answer>a<answer>')).toBeNull();
  });
});
