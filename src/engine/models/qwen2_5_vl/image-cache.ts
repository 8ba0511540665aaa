/** Image files as patches, decoded once and kept while they fit into a memory budget. */
import { loadImage } from '../../image/load-image.ts';
import {
  fitBudget,
  fittedSize,
  type ImageSettings,
  imageGrid,
  type PixelBudget,
  type ProcessedImage,
  processImage,
} from './image-processor.ts';
import type { ImageGrid } from './vision-layout.ts';

/** What a cache holds at most where nothing is said. */
export const IMAGE_CACHE_BYTES = 1024 ** 3;

export interface ImageCacheOptions {
  /** What images are fitted into before the model's own resize. @default as they are */
  readonly budget?: PixelBudget;
  /** Images that no longer fit are decoded anew on every use. @default 1 GiB */
  readonly maxBytes?: number;
}

/** The settings of a model folder with another pixel budget, for a single resize. */
export function withPixelBudget(
  settings: ImageSettings,
  { minPixels, maxPixels }: { readonly minPixels?: number | undefined; readonly maxPixels?: number | undefined },
): ImageSettings {
  return { ...settings, minPixels: minPixels ?? settings.minPixels, maxPixels: maxPixels ?? settings.maxPixels };
}

export class ImageCache {
  readonly #settings: ImageSettings;
  readonly #kept = new Map<string, Promise<ProcessedImage>>();
  readonly #budget: PixelBudget | undefined;
  readonly #maxBytes: number;
  #bytes = 0;

  constructor(settings: ImageSettings, options: ImageCacheOptions = {}) {
    const { budget } = options;
    // What the budget allows is not made smaller again.
    this.#settings = { ...settings, maxPixels: Math.max(settings.maxPixels, budget?.maxPixels ?? 0) };
    this.#budget = budget;
    this.#maxBytes = options.maxBytes ?? IMAGE_CACHE_BYTES;
  }

  /** Of the images that are kept. */
  get bytes(): number {
    return this.#bytes;
  }

  /** The patches that an image of that size has. */
  gridOf({ width, height }: { readonly width: number; readonly height: number }): ImageGrid {
    const size = this.#budget ? fittedSize(height, width, this.#budget) : { height, width };
    return imageGrid(size.height, size.width, this.#settings);
  }

  /**
   * The patches of an image file. Equal paths give the same object while it is kept.
   *
   * @throws IMAGE_UNREADABLE naming the file
   */
  load(path: string): Promise<ProcessedImage> {
    const kept = this.#kept.get(path);
    if (kept) return kept;
    const loading = this.#read(path);
    this.#kept.set(path, loading);
    loading.then(
      ({ pixels }) => {
        if (this.#bytes + pixels.byteLength > this.#maxBytes) this.#kept.delete(path);
        else this.#bytes += pixels.byteLength;
      },
      () => this.#kept.delete(path),
    );
    return loading;
  }

  async #read(path: string): Promise<ProcessedImage> {
    const image = await loadImage(path);
    return processImage(this.#budget ? fitBudget(image, this.#budget) : image, this.#settings);
  }
}
