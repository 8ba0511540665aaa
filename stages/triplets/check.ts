/** Looks at the labelled images before triplets are made of them. */
import path from 'node:path';
import { readImageData } from '../../src/artifacts/rows.ts';
import { loadImage } from '../../src/engine/image/load-image.ts';
import { Fr1Error } from '../../src/errors/fr1-error.ts';
import { checkRows } from '../../src/run/check-rows.ts';
import type { CheckContext } from '../../src/run/stage-api.ts';
import { groupsOf } from './negative-classes.ts';
import type { TripletsOptions } from './options.ts';

export async function checkTriplets(context: CheckContext<TripletsOptions>): Promise<void> {
  const { data, negative, hierarchy } = context.options;
  if (!data) return;
  const { info, rows } = await readImageData(data.path);
  const counts = new Map<string, number>();
  for (const { label } of rows) counts.set(label, (counts.get(label) ?? 0) + 1);
  const alone = [...counts].filter(([, count]) => count < 2).map(([label]) => label);
  if (alone.length > 0 || counts.size < 2) {
    const message =
      counts.size < 2
        ? `${data.path} has ${counts.size} class: a triplet takes two`
        : `${data.path} has one image only of ${alone.slice(0, 5).join(', ')}: a triplet takes two of a class`;
    context.problem(new Fr1Error('DATA_INSUFFICIENT', message));
  }
  if (negative === 'hierarchy' && hierarchy !== null) await groupsOf([...counts.keys()], info, hierarchy?.path);
  const isRight = await checkRows(context, rows, 'images', async ({ image }) => {
    await loadImage(path.join(data.path, image));
  });
  if (isRight) context.found(`${rows.length} images of ${counts.size} classes`);
}
