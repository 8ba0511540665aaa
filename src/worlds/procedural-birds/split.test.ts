import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { ATTRIBUTES } from './attributes.ts';
import { baseMessages, baseSample } from './corpus.ts';
import { type BirdImage, imageKey, renderPixels } from './render.ts';
import { distance, nameOf, traitsOf } from './species.ts';
import { BASE_SPECIES, DATASET_SPECIES, FAMILIES, splitSpecies } from './split.ts';

function valueCounts(species: readonly number[]): number[] {
  return ATTRIBUTES.flatMap((attribute, i) =>
    attribute.values.map((_, value) => species.filter((one) => traitsOf(one)[i] === value).length),
  );
}

describe('the block of dataset species', () => {
  it('holds 300 species and leaves the other 600 to the base', () => {
    expect(DATASET_SPECIES.length).toBe(300);
    expect(BASE_SPECIES.length).toBe(600);
    expect(new Set([...DATASET_SPECIES, ...BASE_SPECIES]).size).toBe(900);
  });

  it('shows every attribute value often on both sides', () => {
    expect(Math.min(...valueCounts(DATASET_SPECIES))).toBeGreaterThanOrEqual(30);
    expect(Math.min(...valueCounts(BASE_SPECIES))).toBeGreaterThanOrEqual(75);
  });

  it('is made of families of four that differ in one and the same attribute', () => {
    for (const { attribute, members } of FAMILIES) {
      for (const a of members) {
        for (const b of members.filter((member) => member !== a)) {
          expect(distance(a, b)).toBe(1);
          expect(traitsOf(a)[attribute]).not.toBe(traitsOf(b)[attribute]);
        }
      }
    }
  });
});

describe('splitSpecies()', () => {
  it.each([1, 2, 3, 4, 5])('gives disjoint classes that the base never sees, under seed %i', (seed) => {
    const { seen, unseen } = splitSpecies(seed, 36, 24);
    expect(seen.length).toBe(36);
    expect(unseen.length).toBe(24);
    expect(new Set([...seen, ...unseen]).size).toBe(60);
    expect([...seen, ...unseen].filter((species) => BASE_SPECIES.includes(species))).toEqual([]);
    expect(Math.min(...valueCounts(seen))).toBeGreaterThanOrEqual(2);
    expect(Math.min(...valueCounts(unseen))).toBeGreaterThanOrEqual(1);
    for (const split of [seen, unseen]) {
      for (const species of split) {
        expect(split.filter((other) => distance(species, other) === 1).length).toBeGreaterThanOrEqual(3);
      }
    }
  });

  it('is fixed by its seed', () => {
    expect(splitSpecies(7, 36, 24)).toEqual(splitSpecies(7, 36, 24));
    expect(splitSpecies(7, 36, 24)).not.toEqual(splitSpecies(8, 36, 24));
  });

  it('can use up the whole block and refuses more', () => {
    expect(splitSpecies(1, 180, 120).unseen.length).toBe(120);
    expect(() => splitSpecies(1, 180, 121)).toThrow(RangeError);
  });
});

describe('the base corpus', () => {
  it('never shows or names a dataset species', () => {
    const names = DATASET_SPECIES.map(nameOf);
    const texts: string[] = [];
    for (let index = 0; index < 8000; index++) {
      const { species, messages } = baseMessages(1, index);
      expect(BASE_SPECIES).toContain(species);
      texts.push(...messages.map((message) => message.content));
    }
    const text = texts.join('\n');
    expect(names.filter((name) => text.includes(name))).toEqual([]);
    expect(BASE_SPECIES.filter((species) => text.includes(nameOf(species))).length).toBe(600);
  });

  it('shares neither image seeds nor pixels with datasets, even for the same numbers', async () => {
    const hash = (pixels: Uint8Array) => createHash('sha256').update(pixels).digest('hex');
    const hashes = new Set<string>();
    const keys = new Set<string>();
    for (let index = 0; index < 40; index++) {
      const sample = await baseSample(1, index);
      hashes.add(hash(sample.pixels));
      keys.add(imageKey({ namespace: 'base', seed: 1, species: sample.species, index }));
      const image: BirdImage = { namespace: 'dataset', seed: 1, species: sample.species, index };
      hashes.add(hash(await renderPixels(image)));
      keys.add(imageKey(image));
    }
    expect(hashes.size).toBe(80);
    expect(keys.size).toBe(80);
  });
});
