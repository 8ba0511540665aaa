/** Wrong options of a closed-world item. */
import type { RandomStream } from '../../engine/random.ts';
import { differingAttribute, distance, neighbours } from './species.ts';

/** Options of an item, the right one included. */
const OPTION_COUNT = 4;

/**
 * Three other classes of the split. Where there are three that differ from the right one in one and the same attribute,
 * those: then all options differ from each other alike, and their list alone does not tell which is right. Else the
 * nearest ones.
 */
export function distractors(species: number, classes: readonly number[], stream: RandomStream): number[] {
  const wanted = OPTION_COUNT - 1;
  const near = neighbours(species).filter((other) => classes.includes(other));
  const lines = [...new Set(near.map((other) => differingAttribute(species, other)))]
    .map((attribute) => near.filter((other) => differingAttribute(species, other) === attribute))
    .filter((line) => line.length >= wanted);
  if (lines.length > 0) return stream.shuffled(stream.choice(lines)).slice(0, wanted);
  return stream
    .shuffled(classes.filter((other) => other !== species))
    .sort((a, b) => distance(species, a) - distance(species, b))
    .slice(0, wanted);
}
