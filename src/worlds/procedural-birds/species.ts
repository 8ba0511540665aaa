/** Species are the combinations of attribute values, numbered in mixed radix with the crown as the leading digit. */
import { ATTRIBUTES, type AttributeKey } from './attributes.ts';

/** One value index per attribute, in the order of {@link ATTRIBUTES}. */
export type Traits = readonly number[];

export const SPECIES_COUNT = ATTRIBUTES.reduce((count, attribute) => count * attribute.values.length, 1);

export function traitsOf(species: number): Traits {
  const traits: number[] = [];
  let rest = species;
  for (let i = ATTRIBUTES.length - 1; i >= 0; i--) {
    const radix = ATTRIBUTES[i]!.values.length;
    traits[i] = rest % radix;
    rest = Math.floor(rest / radix);
  }
  return traits;
}

export function speciesOf(traits: Traits): number {
  return ATTRIBUTES.reduce((species, attribute, i) => species * attribute.values.length + traits[i]!, 0);
}

/** e.g. `Ruby Honey Ladder Kite` */
export function nameOf(species: number): string {
  return traitsOf(species)
    .map((value, i) => ATTRIBUTES[i]!.values[value]!.name)
    .join(' ');
}

let speciesByName: Map<string, number> | undefined;

/** undefined when no species has that name. */
export function speciesNamed(name: string): number | undefined {
  speciesByName ??= new Map(Array.from({ length: SPECIES_COUNT }, (_, species) => [nameOf(species), species]));
  return speciesByName.get(name);
}

/** e.g. `red crown`; `attribute` and `value` are indices. */
export function phrase(attribute: number, value: number): string {
  return `${ATTRIBUTES[attribute]!.values[value]!.word} ${ATTRIBUTES[attribute]!.noun}`;
}

/** e.g. `red crown, yellow breast, barred wings, forked tail` */
export function describe(species: number): string {
  return traitsOf(species)
    .map((value, i) => phrase(i, value))
    .join(', ');
}

/** e.g. `{ crown: 'red', breast: 'yellow', wings: 'barred', tail: 'forked' }` */
export function attributeWords(species: number): Record<AttributeKey, string> {
  const traits = traitsOf(species);
  return Object.fromEntries(
    ATTRIBUTES.map((attribute, i) => [attribute.key, attribute.values[traits[i]!]!.word]),
  ) as Record<AttributeKey, string>;
}

/** Number of attributes in which two species differ. */
export function distance(a: number, b: number): number {
  const other = traitsOf(b);
  return traitsOf(a).filter((value, i) => value !== other[i]).length;
}

/** Index of the first attribute in which two species differ; -1 for the same species. */
export function differingAttribute(a: number, b: number): number {
  const other = traitsOf(b);
  return traitsOf(a).findIndex((value, i) => value !== other[i]);
}

/** All species that differ in exactly one attribute, in ascending order. */
export function neighbours(species: number): number[] {
  const traits = traitsOf(species);
  const found: number[] = [];
  for (let i = 0; i < ATTRIBUTES.length; i++) {
    for (let value = 0; value < ATTRIBUTES[i]!.values.length; value++) {
      if (value !== traits[i]) found.push(speciesOf(traits.with(i, value)));
    }
  }
  return found.sort((a, b) => a - b);
}
