/**
 * Which species belong to the base's pre-training and which to datasets, and how a dataset picks its classes.
 *
 * A fixed block of 300 species is kept for datasets of every seed; the base only ever sees the other 600. The block is
 * made of 75 families: four species that differ from each other in one and the same attribute. A dataset takes whole
 * families, so that every class has three near neighbours in its own split, and no option of a question built from a
 * family can be told from the others by the list alone (a star of neighbours would give away its centre).
 */
import { RandomStream } from '../../engine/random.ts';
import { ATTRIBUTES } from './attributes.ts';
import { FAMILY_COUNT, FAMILY_SIZE, MAX_CLASSES } from './families.ts';
import { SPECIES_COUNT, speciesOf, traitsOf } from './species.ts';

export interface Family {
  /** Index of the attribute in which the members differ. */
  readonly attribute: number;
  readonly members: readonly number[];
}

/** All species that agree with `species` in everything but `attribute`. */
function line(species: number, attribute: number): number[] {
  const traits = traitsOf(species);
  return ATTRIBUTES[attribute]!.values.map((_, value) => speciesOf(traits.with(attribute, value)));
}

/** Adds the species' values to per-attribute counts. */
function count(counts: readonly number[][], species: number): void {
  traitsOf(species).forEach((value, attribute) => {
    counts[attribute]![value]!++;
  });
}

function emptyCounts(): number[][] {
  return ATTRIBUTES.map((attribute) => attribute.values.map(() => 0));
}

/** How much a species adds to the values that are rare so far. */
function rarity(counts: readonly number[][], species: number): number {
  return traitsOf(species).reduce((sum, value, attribute) => sum + 1 / (1 + counts[attribute]![value]!), 0);
}

function makeFamilies(): Family[] {
  const stream = new RandomStream('procedural-birds', 'families');
  const used = new Set<number>();
  const families: Family[] = [];
  while (families.length < FAMILY_COUNT) {
    const attribute = families.length % ATTRIBUTES.length;
    const free = line(stream.integer(SPECIES_COUNT), attribute).filter((species) => !used.has(species));
    if (free.length < FAMILY_SIZE) continue;
    const members = stream.shuffled(free).slice(0, FAMILY_SIZE);
    for (const member of members) used.add(member);
    families.push({ attribute, members });
  }
  return families;
}

/** The block kept for datasets. */
export const FAMILIES: readonly Family[] = makeFamilies();
const DATASET_SPECIES_SET: ReadonlySet<number> = new Set(FAMILIES.flatMap((family) => family.members));
export const DATASET_SPECIES: readonly number[] = [...DATASET_SPECIES_SET].sort((a, b) => a - b);
export const BASE_SPECIES: readonly number[] = Array.from({ length: SPECIES_COUNT }, (_, species) => species).filter(
  (species) => !DATASET_SPECIES_SET.has(species),
);

export function isBaseSpecies(species: number): boolean {
  return !DATASET_SPECIES_SET.has(species);
}

export interface SpeciesSplit {
  readonly seen: readonly number[];
  readonly unseen: readonly number[];
}

/**
 * Seen and unseen classes of one dataset: whole families, the differing attribute taking turns, values that are rare so
 * far preferred. A count that is not a multiple of four takes part of its last family.
 */
export function splitSpecies(seed: number, seenCount: number, unseenCount: number): SpeciesSplit {
  if (seenCount + unseenCount > MAX_CLASSES) throw new RangeError(`at most ${MAX_CLASSES} classes exist`);
  const remaining = new RandomStream('procedural-birds', 'split', seed).shuffled(FAMILIES);
  let turn = 0;
  const take = (wanted: number): number[] => {
    const counts = emptyCounts();
    const taken: number[] = [];
    while (taken.length < wanted) {
      const attribute = turn++ % ATTRIBUTES.length;
      let best = -1;
      let bestScore = -1;
      remaining.forEach((family, i) => {
        if (family.attribute !== attribute) return;
        const score = family.members.reduce((sum, member) => sum + rarity(counts, member), 0);
        if (score > bestScore) {
          best = i;
          bestScore = score;
        }
      });
      if (best < 0) {
        if (remaining.length === 0) throw new RangeError('the families are used up');
        continue;
      }
      const [family] = remaining.splice(best, 1);
      for (const member of family!.members.slice(0, wanted - taken.length)) {
        count(counts, member);
        taken.push(member);
      }
    }
    return taken;
  };
  return { seen: take(seenCount), unseen: take(unseenCount) };
}
