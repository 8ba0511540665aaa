/** Image files as patches, decoded once and kept while they fit into a memory budget. */
import { loadImage } from '../../image/load-image.ts';
import { type ImageSettings, type ProcessedImage, processImage } from './image-processor.ts';

export interface ImageCacheOptions {
  /** Images that no longer fit are decoded anew on every use. @default 1 GiB */
  readonly maxBytes?: number;
}

/** The settings of a model folder with another pixel budget. */
export function withPixelBudget(
  settings: ImageSettings,
  { minPixels, maxPixels }: { readonly minPixels?: number | undefined; readonly maxPixels?: number | undefined },
): ImageSettings {
  return { ...settings, minPixels: minPixels ?? settings.minPixels, maxPixels: maxPixels ?? settings.maxPixels };
}

export class ImageCache {
  readonly #settings: ImageSettings;
  readonly #kept = new Map<string, Promise<ProcessedImage>>();
  readonly #maxBytes: number;
  #bytes = 0;

  constructor(settings: ImageSettings, options: ImageCacheOptions = {}) {
    this.#settings = settings;
    this.#maxBytes = options.maxBytes ?? 1024 ** 3;
  }

  /**
   * The patches of an image file. Equal paths give the same object while it is kept.
   *
   * @throws IMAGE_UNREADABLE naming the file
   */
  load(path: string): Promise<ProcessedImage> {
    const kept = this.#kept.get(path);
    if (kept) return kept;
    const loading = loadImage(path).then((image) => processImage(image, this.#settings));
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
}
