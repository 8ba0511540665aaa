/** A folder per class: <class>/<image>, or train/<class>/<image> and test/<class>/<image>, also further down. */
import path from 'node:path';
import { Fr1Error } from '../../errors/fr1-error.ts';
import { filesBelow, IMAGE_EXTENSIONS, splitOfName } from '../files-below.ts';
import { type LabelStyle, styledLabel } from '../labels.ts';
import type { SourceData, SourceImage } from '../source.ts';

export interface NamedSource {
  readonly name: string;
  readonly superCategory: string;
  readonly labelStyle: LabelStyle;
}

/**
 * The label is the name of the folder, without a leading number (`012.`) or WordNet id (`n02085620-`).
 *
 * @throws DATA_UNREADABLE without images, or with an image in no class folder
 */
export function readImageFolder(root: string, { name, superCategory, labelStyle }: NamedSource): SourceData {
  const files = filesBelow(root, IMAGE_EXTENSIONS);
  const stems = new Map<string, number>();
  for (const file of files) stems.set(stemOf(file), (stems.get(stemOf(file)) ?? 0) + 1);
  const images = files.map((file): SourceImage => {
    const relative = path.relative(root, file).split(path.sep).join('/');
    const parts = relative.split('/');
    const split =
      parts
        .slice(0, -2)
        .map(splitOfName)
        .find((each) => each !== null) ?? null;
    const folder = parts.at(-2);
    if (folder === undefined) {
      throw new Fr1Error('DATA_UNREADABLE', `${file} lies in no class folder`, {
        hint: 'put the images of each class into a folder of its name',
      });
    }
    const label = styledLabel(folder.replace(/^(\d+\.|n\d{8}-)/, ''), labelStyle);
    const content = { kind: 'file', path: file, name: relative } as const;
    // `1.jpg` and `1.png` of a folder keep their endings apart.
    const id = stems.get(stemOf(file)) === 1 ? stemOf(relative) : relative;
    return { id, label, split, content };
  });
  const labels = [...new Set(images.map(({ label }) => label))].sort();
  return { name, superCategory, classes: labels.map((label) => ({ label, groups: [] })), images };
}

function stemOf(file: string): string {
  return file.slice(0, file.length - path.extname(file).length);
}
