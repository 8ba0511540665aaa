import { describe, expect, it } from 'vitest';
import { RandomStream } from '../../engine/random.ts';
import { nameOf, speciesNamed } from './species.ts';
import { DATASET_SPECIES, isBaseSpecies, splitSpecies } from './split.ts';
import { rejectionOf, writeAnswer, writeThought } from './thoughts.ts';

const { seen, unseen } = splitSpecies(1, 36, 24);
const TRAIN = new Set(seen);

function thoughts(count: number): { label: string; text: string; candidates: string[] }[] {
  return Array.from({ length: count }, (_, i) => {
    const species = seen[i % seen.length]!;
    const text = writeThought(species, TRAIN, new RandomStream('test', i));
    const list = /sub-categories: (.+?)\./.exec(text)![1]!;
    return { label: nameOf(species), text, candidates: list.split(', ') };
  });
}

describe('writeThought()', () => {
  it('writes what its own check accepts', () => {
    for (const { label, text } of thoughts(400)) expect(rejectionOf(text, label)).toBeNull();
  });

  it('puts the label at every place among two or three candidates', () => {
    const all = thoughts(600);
    const share = (length: number, place: number) => {
      const some = all.filter((one) => one.candidates.length === length);
      return some.filter((one) => one.candidates.indexOf(one.label) === place).length / some.length;
    };
    for (const [length, place] of [
      [2, 0],
      [2, 1],
      [3, 0],
      [3, 1],
      [3, 2],
    ] as const) {
      expect(share(length, place)).toBeGreaterThan(0.7 / length);
    }
  });

  it('names training classes and species of the base, never a held-out class', () => {
    const named = new Set(thoughts(600).flatMap((one) => one.candidates.map((name) => speciesNamed(name)!)));
    expect([...named].filter((species) => !TRAIN.has(species) && !isBaseSpecies(species))).toEqual([]);
    expect(unseen.filter((species) => named.has(species))).toEqual([]);
    expect([...named].some((species) => isBaseSpecies(species))).toBe(true);
    expect(DATASET_SPECIES.length).toBe(300);
  });

  it('reads as in the documentation', () => {
    const species = speciesNamed('Ruby Honey Ladder Kite')!;
    expect(writeThought(species, new Set(), new RandomStream('doc', 1))).toMatchInlineSnapshot(`
      "<think>Visual analysis: red crown, yellow breast, barred wings, forked tail. Candidate sub-categories: Ruby Honey Stone Kite, Ruby Honey Ladder Kite. Comparison: barred wings, not grey. The prediction is Ruby Honey Ladder Kite.</think>
      <answer>Ruby Honey Ladder Kite</answer>"
    `);
  });
});

describe('rejectionOf()', () => {
  const label = 'Ruby Honey Ladder Kite';
  const good =
    '<think>Visual analysis: red crown, yellow breast, barred wings, forked tail. ' +
    'Candidate sub-categories: Jade Honey Ladder Kite, Ruby Honey Ladder Kite. ' +
    'Comparison: red crown, not green. The prediction is Ruby Honey Ladder Kite.</think>\n' +
    '<answer>Ruby Honey Ladder Kite</answer>';

  it('accepts a true thought', () => {
    expect(rejectionOf(good, label)).toBeNull();
  });

  it.each([
    ['a missing tag', good.replace('</think>', ''), /form/],
    ['text after the answer', `${good} Done.`, /form/],
    ['a second answer', `${good}<answer>${label}</answer>`, /more than once/],
    ['another answer', good.replace(`<answer>${label}`, '<answer>Jade Honey Ladder Kite'), /answers/],
    ['another prediction', good.replace(`is ${label}`, 'is Jade Honey Ladder Kite'), /predicts/],
    ['a label that is no candidate', good.replace(`, ${label}. Comp`, ', Ruby Moss Ladder Kite. Comp'), /not among/],
    ['a missing comparison', good.replace('Comparison: red crown, not green. ', ''), /lacks/],
    ['a doubled candidate', good.replace('Jade Honey Ladder Kite,', `${label},`), /twice/],
    ['a false analysis', good.replace('yellow breast', 'red breast'), /not true/],
    ['an invented candidate', good.replace('Jade Honey', 'Pink Honey'), /no species/],
    ['a far candidate', good.replace('Jade Honey', 'Jade Moss'), /near neighbour/],
    ['a false comparison', good.replace('not green', 'not blue'), /comparison is not true/],
    ['an answer without a thought', writeAnswer(label), /form/],
  ])('rejects %s', (_, text, reason) => {
    expect(rejectionOf(text, label)).toMatch(reason);
  });
});
