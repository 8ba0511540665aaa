/** How large images are read, for the log of a training. */

/** @param sizes in pixels of the whole image; null where the model's own preprocessor decides */
export function imageSizes(sizes: { readonly minPixels: number | null; readonly maxPixels: number | null }): string {
  const { minPixels, maxPixels } = sizes;
  if (minPixels === null && maxPixels === null) return "images in the sizes that the model's preprocessor gives them";
  return `images of ${minPixels ?? "the model's fewest"} to ${maxPixels ?? "the model's most"} pixels`;
}
