/**
 * Positive and negative images in the tokens and positions of their anchor, as Fine-R1's released code scores them (Q23).
 *
 * The code reads an anchor's prompt once and puts the features of other images into its image tokens. Shapes that are equal make
 * no difference; of another shape with as many tokens, features stand at places of the anchor's shape, silently. Of more or fewer
 * tokens the code ends with an error where the sums over a micro-batch differ; here each view is looked at on its own.
 */
import type { ImagePatches } from '../generate/types.ts';
import type { Prompt } from './tapo.ts';

type Shown = { readonly images: readonly Pick<ImagePatches, 'grid'>[] };

/** Whether each image of the view has as many patches as that of the anchor in its place. */
export function fitsLayout(anchor: Shown, view: Shown): boolean {
  return (
    view.images.length === anchor.images.length &&
    view.images.every(({ grid }, i) => patchesOf(grid) === patchesOf(anchor.images[i]!.grid))
  );
}

function patchesOf([time, height, width]: ImagePatches['grid']): number {
  return time * height * width;
}

/** The images of the view, everything else of the anchor. The view fits. */
export function inLayoutOf(anchor: Prompt, view: Prompt): Prompt {
  if (!fitsLayout(anchor, view)) throw new TypeError('an image does not fit the layout of its anchor');
  return { ...anchor, images: view.images, grids: anchor.images.map(({ grid }) => grid) };
}
