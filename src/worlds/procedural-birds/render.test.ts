import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import { type BirdImage, IMAGE_SIDE, renderPixels, renderPng, sceneOf } from './render.ts';
import { toFrame } from './scene.ts';
import { SPECIES_COUNT, speciesNamed, traitsOf } from './species.ts';

const IMAGE: BirdImage = { namespace: 'dataset', seed: 1, species: 123, index: 4 };

describe('renderPixels()', () => {
  it('gives the same bytes for the same identity and others for any other', async () => {
    const pixels = await renderPixels(IMAGE);
    expect(pixels.length).toBe(IMAGE_SIDE * IMAGE_SIDE * 3);
    expect(Buffer.compare(pixels, await renderPixels({ ...IMAGE }))).toBe(0);
    for (const change of [{ seed: 2 }, { species: 124 }, { index: 5 }, { namespace: 'base' as const }]) {
      expect(Buffer.compare(pixels, await renderPixels({ ...IMAGE, ...change }))).not.toBe(0);
    }
  });

  it('equals what the PNG decodes to', async () => {
    const { data, info } = await sharp(await renderPng(IMAGE))
      .raw()
      .toBuffer({ resolveWithObject: true });
    expect([info.width, info.height, info.channels]).toEqual([112, 112, 3]);
    expect(Buffer.compare(data, await renderPixels(IMAGE))).toBe(0);
  });

  it('shows the crown in its colour where the pose puts it', async () => {
    const species = speciesNamed('Ruby Honey Ladder Kite')!;
    for (let index = 0; index < 20; index++) {
      const image: BirdImage = { namespace: 'dataset', seed: 1, species, index };
      const scene = sceneOf(image);
      if (scene.hardPart !== null || scene.occluders.length > 0) continue;
      const { x, y } = toFrame(scene, { x: 22, y: -31 });
      const at = (Math.round(y) * IMAGE_SIDE + Math.round(x)) * 3;
      const [red, green, blue] = (await renderPixels(image)).subarray(at, at + 3);
      expect(red! - Math.max(green!, blue!)).toBeGreaterThan(60);
    }
  });
});

describe('sceneOf()', () => {
  it('makes one naming part hard in about a tenth of the images, each attribute in turn', () => {
    const hard = Array.from({ length: 4000 }, (_, index) =>
      sceneOf({ namespace: 'dataset', seed: 3, species: index % SPECIES_COUNT, index }),
    ).flatMap((scene) => scene.hardPart?.attribute ?? []);
    expect(hard.length).toBeGreaterThan(320);
    expect(hard.length).toBeLessThan(480);
    for (let attribute = 0; attribute < 4; attribute++) expect(hard).toContain(attribute);
  });

  it('carries the traits of its species', () => {
    expect(sceneOf(IMAGE).traits).toEqual(traitsOf(IMAGE.species));
  });
});
