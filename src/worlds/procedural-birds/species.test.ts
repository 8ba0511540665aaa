import { expect, it, describe as suite } from 'vitest';
import { ATTRIBUTES, DESCRIPTIVE_WORDS, NAME_WORDS } from './attributes.ts';
import {
  attributeWords,
  describe,
  differingAttribute,
  distance,
  nameOf,
  neighbours,
  SPECIES_COUNT,
  speciesNamed,
  speciesOf,
  traitsOf,
} from './species.ts';

const ALL = Array.from({ length: SPECIES_COUNT }, (_, species) => species);

suite('species', () => {
  it('are the 900 combinations of attribute values, each with its own name and description', () => {
    expect(SPECIES_COUNT).toBe(900);
    expect(new Set(ALL.map(nameOf)).size).toBe(900);
    expect(new Set(ALL.map(describe)).size).toBe(900);
    expect(ALL.map((species) => speciesOf(traitsOf(species)))).toEqual(ALL);
    expect(ALL.map((species) => speciesNamed(nameOf(species)))).toEqual(ALL);
    expect(speciesNamed('Ruby Honey')).toBeUndefined();
  });

  it('have names whose words differ from each other and from the descriptive words', () => {
    const words = NAME_WORDS.map((word) => word.toLowerCase());
    expect(new Set(words).size).toBe(ATTRIBUTES.reduce((sum, attribute) => sum + attribute.values.length, 0));
    expect(words.filter((word) => DESCRIPTIVE_WORDS.includes(word))).toEqual([]);
  });

  it('have names none of which contains another', () => {
    const names = ALL.map((species) => nameOf(species).toLowerCase());
    const contained = names.filter((name, i) => names.some((other, j) => i !== j && other.includes(name)));
    expect(contained).toEqual([]);
  });

  it('have 18 neighbours at distance one, which differ in one attribute', () => {
    for (const species of ALL) {
      const near = neighbours(species);
      expect(near).toEqual(ALL.filter((other) => distance(species, other) === 1));
      expect(near.length).toBe(18);
    }
    expect(differingAttribute(0, 0)).toBe(-1);
    expect(differingAttribute(0, 1)).toBe(3);
  });

  it('tell their attributes in words', () => {
    const species = speciesNamed('Ruby Honey Ladder Kite')!;
    expect(describe(species)).toBe('red crown, yellow breast, barred wings, forked tail');
    expect(attributeWords(species)).toEqual({ crown: 'red', breast: 'yellow', wings: 'barred', tail: 'forked' });
  });
});
