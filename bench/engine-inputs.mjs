/** What bench/fr1-engine.mjs, devices.mjs and memory.mjs give the engine: sessions, images, rows, requests. */
import { GRID, PATCH_WIDTH, PATCHES } from './scenarios.mjs';

/** Sessions of a runtime on the CPU, without a pool. */
export function sourceOf(runtime) {
  return {
    provider: 'cpu',
    session: (key, create) => {
      const { model, options } = create();
      return runtime.createSession(model, { ...options, logId: key });
    },
  };
}

/** @param pixels [count * 64, 1176] */
export function imagesOf(pixels, count) {
  const perImage = PATCHES * PATCH_WIDTH;
  return Array.from({ length: count }, (_, i) => ({
    pixels: pixels.subarray(i * perImage, (i + 1) * perImage),
    grid: GRID,
  }));
}

/** The first `count` prompts, each with its image and response. */
export function rowsOf({ prompts, responses }, count) {
  return prompts.slice(0, count).map((prefix, i) => ({ prefix, images: [i], branches: [{ ids: responses[i] }] }));
}

/** The first `count` prompts, to be continued. */
export function requestsOf({ prompts }, images, count) {
  return prompts.slice(0, count).map((ids, i) => ({ inputIds: Int32Array.from(ids), images: [images[i]], seed: i }));
}
