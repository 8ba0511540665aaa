/** Which images test and which may train: functions of the seed and of each class alone. */
import { RandomStream } from '../engine/random.ts';
import type { SourceImage } from './source.ts';

/** Share of each class that becomes test where a source has no test images. */
const TEST_FRACTION = 0.2;

/**
 * Every image as one of training or test. Where the source has no test images, or `testFraction` is given, that share of
 * the training images of each class becomes test, one at least, and test images of the source are left out.
 */
export function withTests(
  images: readonly SourceImage[],
  testFraction: number | undefined,
  seed: number,
): readonly SourceImage[] {
  const own = images.filter(({ split }) => split === 'test');
  if (testFraction === undefined && own.length > 0) return images.map(asTraining);
  const chosen = new Set<SourceImage>();
  const rest = images.filter(({ split }) => split !== 'test');
  for (const [label, group] of byLabel(rest)) {
    const count = Math.max(1, Math.round((testFraction ?? TEST_FRACTION) * group.length));
    const order = new RandomStream('dataset', 'test', seed, label).shuffled(group);
    for (const image of order.slice(0, count)) chosen.add(image);
  }
  return rest.map((image) => (chosen.has(image) ? { ...image, split: 'test' } : asTraining(image)));
}

/** For data without a test: what is not marked as test trains. */
export function allTraining(images: readonly SourceImage[]): readonly SourceImage[] {
  return images.map(asTraining);
}

function asTraining(image: SourceImage): SourceImage {
  return image.split === null ? { ...image, split: 'train' } : image;
}

/**
 * The test images of the classes in the order of the source.
 *
 * @param limit where fewer are asked for, classes take turns; undefined for all
 */
export function testImages(
  images: readonly SourceImage[],
  classes: readonly string[],
  limit: number | undefined,
  seed: number,
): SourceImage[] {
  const wanted = new Set(classes);
  const all = images.filter(({ split, label }) => split === 'test' && wanted.has(label));
  if (limit === undefined || limit >= all.length) return all;
  const queues = [...byLabel(all)].map(([label, group]) =>
    new RandomStream('dataset', 'test-choice', seed, label).shuffled(group),
  );
  const chosen = new Set<SourceImage>();
  for (let turn = 0; chosen.size < limit; turn++) {
    for (const queue of queues) {
      const image = queue[turn];
      if (image !== undefined && chosen.size < limit) chosen.add(image);
    }
  }
  return all.filter((image) => chosen.has(image));
}

/** Images by class, both in the order of the source. */
export function byLabel(images: readonly SourceImage[]): Map<string, SourceImage[]> {
  const groups = new Map<string, SourceImage[]>();
  for (const image of images) {
    const group = groups.get(image.label);
    if (group === undefined) groups.set(image.label, [image]);
    else group.push(image);
  }
  return groups;
}
