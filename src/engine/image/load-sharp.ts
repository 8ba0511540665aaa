/** sharp, which most commands need not load. */
type SharpModule = typeof import('sharp')['default'];

let loading: Promise<SharpModule> | undefined;

/** Nothing is kept of one image for another: libvips would keep what it decoded for the same bytes again. */
export function loadSharp(): Promise<SharpModule> {
  loading ??= import('sharp').then(({ default: sharp }) => {
    sharp.cache(false);
    return sharp;
  });
  return loading;
}
