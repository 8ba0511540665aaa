/** Finds the image files of listed rows: the options `images` and `missingImages`. */
import { asUnpacked, isThere, relocated, unusedRoots } from '../../src/datasets/image-roots.ts';
import type { SourceImage } from '../../src/datasets/source.ts';
import { Fr1Error } from '../../src/errors/fr1-error.ts';
import type { StageContext } from '../../src/run/stage-api.ts';
import type { DatasetOptions } from './options.ts';

type Listed = Pick<SourceImage, 'id' | 'content' | 'at'>;

/**
 * The rows with each image at its place.
 *
 * @throws DATA_UNREADABLE for a beginning of paths under `images` that no path has
 * @throws DATA_ROW_INVALID when files are missing, unless such rows are left out; always when all are missing
 */
export function placeImages<Row extends Listed>(
  { options, warn }: Pick<StageContext<DatasetOptions>, 'options' | 'warn'>,
  rows: readonly Row[],
): { readonly images: readonly Row[]; readonly missing: number } {
  const roots = Object.fromEntries(Object.entries(options.images ?? {}).map(([prefix, { path }]) => [prefix, path]));
  const unused = unusedRoots(
    rows.map(({ content }) => content.name),
    roots,
  )[0];
  if (unused !== undefined) {
    throw new Fr1Error('DATA_UNREADABLE', `no image path begins with "${unused}", which is given under "images"`, {
      hint: `the first path is ${rows[0]?.content.name}`,
    });
  }
  const placed = rows.map((row) => ({ ...row, content: asUnpacked(relocated(row.content, roots)) }));
  const images = placed.filter(({ content }) => isThere(content));
  const missing = placed.length - images.length;
  if (missing === 0) return { images, missing };
  if (options.missingImages === 'fail' || images.length === 0) {
    throw missingError(placed.find(({ content }) => !isThere(content))!, missing, placed.length);
  }
  warn(`${missing} of ${placed.length} listed images do not exist; their rows are left out`);
  return { images, missing };
}

function missingError({ id, content, at }: Listed, missing: number, total: number): Fr1Error {
  const file = content.kind === 'file' ? content.path : content.name;
  const more = missing > 1 ? `, nor do those of ${missing - 1} more of ${total} rows` : '';
  return new Fr1Error('DATA_ROW_INVALID', `image "${id}": its file ${file} does not exist${more}`, {
    at,
    hint:
      missing === total
        ? 'say under `images` where the files lie, e.g. images: { .: ../photos }'
        : 'say under `images` where they lie, or leave such rows out with missingImages: skip',
  });
}
