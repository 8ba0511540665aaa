/** A folder per class: <class>/<image>, or train/<class>/<image> and test/<class>/<image>. */
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
  const images = filesBelow(root, IMAGE_EXTENSIONS).map((file): SourceImage => {
    const relative = path.relative(root, file).split(path.sep).join('/');
    const parts = relative.split('/');
    const split = parts.length > 2 ? splitOfName(parts[0]!) : null;
    const folder = parts.at(-2);
    if (folder === undefined) {
      throw new Fr1Error('DATA_UNREADABLE', `${file} lies in no class folder`, {
        hint: 'put the images of each class into a folder of its name',
      });
    }
    const label = styledLabel(folder.replace(/^(\d+\.|n\d{8}-)/, ''), labelStyle);
    const content = { kind: 'file', path: file, name: relative } as const;
    return { id: relative.slice(0, -path.extname(relative).length), label, split, content };
  });
  const labels = [...new Set(images.map(({ label }) => label))].sort();
  return { name, superCategory, classes: labels.map((label) => ({ label, groups: [] })), images };
}
