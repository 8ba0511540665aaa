/** Scenes to pixels and files. An image is fixed by its identity: namespace, seed, species and index. */
import { loadSharp } from '../../engine/image/load-sharp.ts';
import { RandomStream } from '../../engine/random.ts';
import { drawSvg, IMAGE_SIDE } from './draw.ts';
import { type Scene, sampleScene } from './scene.ts';

/** The base's pre-training images and all other images come from different namespaces, so they never coincide. */
export type ImageNamespace = 'base' | 'dataset';

export interface BirdImage {
  readonly namespace: ImageNamespace;
  readonly seed: number;
  readonly species: number;
  readonly index: number;
}

export { IMAGE_SIDE };

export function imageKey(image: BirdImage): string {
  return `${image.namespace}/${image.seed}/${image.species}/${image.index}`;
}

export function sceneOf(image: BirdImage): Scene {
  return sampleScene(image.species, new RandomStream('procedural-birds', imageKey(image)));
}

/** Applies the scene's light and noise in place. pixels [112, 112, 3] */
function expose(pixels: Uint8Array, scene: Scene): void {
  const [red, green, blue] = scene.light.map((factor) =>
    Int32Array.from({ length: 256 }, (_, value) => Math.round(value * factor)),
  ) as [Int32Array, Int32Array, Int32Array];
  const clamped = new Uint8ClampedArray(pixels.buffer, pixels.byteOffset, pixels.byteLength);
  const amplitude = Math.round(scene.noise * 16);
  let state = scene.noiseSeed | 1;
  for (let i = 0; i < clamped.length; i += 3) {
    // NOTE: xorshift32 is enough here; one 32-bit word gives the luminance noise of a pixel.
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    const noise = ((((state & 0xff) - 128) * amplitude) | 0) >> 11;
    clamped[i] = red[clamped[i]!]! + noise;
    clamped[i + 1] = green[clamped[i + 1]!]! + noise;
    clamped[i + 2] = blue[clamped[i + 2]!]! + noise;
  }
}

/** RGB bytes [112, 112, 3] of an image, without going through a file format. */
export async function renderPixels(image: BirdImage): Promise<Uint8Array> {
  const scene = sceneOf(image);
  const sharp = await loadSharp();
  const { data } = await sharp(Buffer.from(drawSvg(scene)))
    .removeAlpha()
    .raw()
    .toBuffer({ resolveWithObject: true });
  const pixels = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  expose(pixels, scene);
  return pixels;
}

/** PNG bytes that decode to exactly {@link renderPixels}. */
export async function renderPng(image: BirdImage): Promise<Uint8Array> {
  return encodePng(await renderPixels(image), IMAGE_SIDE, IMAGE_SIDE);
}

/** pixels [height, width, 3] */
export async function encodePng(pixels: Uint8Array, width: number, height: number): Promise<Uint8Array> {
  const sharp = await loadSharp();
  return sharp(pixels, { raw: { width, height, channels: 3 } })
    .png({ compressionLevel: 6 })
    .toBuffer();
}
