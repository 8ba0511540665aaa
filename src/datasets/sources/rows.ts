/** Lists of rows with an image and a label each: JSON lines and Parquet. Columns may have other names, see {@link Fields}. */
import path from 'node:path';
import { isRecord, isStrings, type RowProblem, readJsonLines } from '../../artifacts/json-lines.ts';
import { RowProblems } from '../../artifacts/row-problems.ts';
import { Fr1Error, type SourcePosition } from '../../errors/fr1-error.ts';
import { filesBelow, nameBelow, splitOfName } from '../files-below.ts';
import { styledLabel } from '../labels.ts';
import { imageBytes, ParquetFile } from '../parquet-file.ts';
import { withoutImageMark } from '../questions.ts';
import type { ImageContent, SourceData, SourceImage } from '../source.ts';
import type { NamedSource } from './image-folder.ts';

/** What the columns are called, where not by these names. */
export type Fields = Readonly<Partial<Record<FieldName, string>>>;
export type FieldName = 'id' | 'image' | 'label' | 'split' | 'question' | 'options' | 'attributes';

/**
 * JSON lines: one file, or a folder with files named after their split. Image paths start at the file's folder.
 *
 * @throws DATA_UNREADABLE, DATA_ROW_INVALID
 */
export async function readJsonRows(root: string, source: NamedSource, fields: Fields = {}): Promise<SourceData> {
  const images: SourceImage[] = [];
  for (const file of filesBelow(root, new Set(['.jsonl']))) {
    const rows = await readJsonLines(file, (row, line) => {
      if (!isRecord(row)) return { problem: 'it is not an object' };
      const name = row[fields.image ?? 'image'];
      if (typeof name !== 'string' || name === '') return { problem: `"${fields.image ?? 'image'}" is not a path` };
      const content = { kind: 'file', path: path.resolve(path.dirname(file), name), name } as const;
      return imageOf(row, content, { file, name: nameBelow(root, file), line }, fields, source);
    });
    for (const row of rows) images.push(row);
  }
  return sourceOf(images, source);
}

/**
 * Parquet with the images' bytes inside: one file, or a folder with files named after their split.
 *
 * @throws DATA_UNREADABLE, DATA_ROW_INVALID
 */
export async function readParquetRows(root: string, source: NamedSource, fields: Fields = {}): Promise<SourceData> {
  const images: SourceImage[] = [];
  for (const path_ of filesBelow(root, new Set(['.parquet']))) {
    const file = await ParquetFile.open(path_);
    const imageColumn = fields.image ?? 'image';
    const labelColumn = fields.label ?? 'label';
    for (const column of [imageColumn, labelColumn]) {
      if (!file.columns.includes(column)) throw lacksColumn(file, column);
    }
    const fileName = nameBelow(root, path_);
    const names = file.classNames(labelColumn);
    const others = file.columns.filter((column) => column !== imageColumn);
    for (const [index, cells] of (await file.rows(others)).entries()) {
      const number = cells[labelColumn];
      const isNumber = typeof number === 'number' || typeof number === 'bigint';
      const label = isNumber ? (names?.[Number(number)] ?? String(number)) : number;
      const name = `${fileName}/${String(index).padStart(6, '0')}`;
      const content: ImageContent = {
        kind: 'bytes',
        name,
        async read() {
          const bytes = imageBytes((await file.row(index, [imageColumn]))[imageColumn]);
          if (bytes !== undefined) return bytes;
          throw new Fr1Error('DATA_ROW_INVALID', `${path_}: row ${index}: "${imageColumn}" holds no bytes of an image`);
        },
      };
      const place = { file: path_, name: fileName, line: index + 1 };
      const image = imageOf({ ...cells, [labelColumn]: label }, content, place, fields, source);
      if ('problem' in image) throw new Fr1Error('DATA_ROW_INVALID', `${path_}: row ${index}: ${image.problem}`);
      images.push(image);
    }
  }
  return sourceOf(images, source);
}

function lacksColumn(file: ParquetFile, column: string): Fr1Error {
  return new Fr1Error('DATA_UNREADABLE', `${file.path} has no column "${column}"; it has: ${file.columns.join(', ')}`, {
    hint: 'say in `fields` what the columns are called, e.g. fields: { image: picture, label: species }',
  });
}

interface RowPlace {
  readonly file: string;
  /** Of the file, for rows without an id. */
  readonly name: string;
  /** From 1. */
  readonly line: number;
}

function imageOf(
  row: Readonly<Record<string, unknown>>,
  content: ImageContent,
  { file, name, line }: RowPlace,
  fields: Fields,
  { labelStyle }: NamedSource,
): SourceImage | RowProblem {
  const field = (name: FieldName) => row[fields[name] ?? name] ?? undefined;
  const label = field('label');
  if (typeof label !== 'string' || label.trim() === '')
    return { problem: `"${fields.label ?? 'label'}" is not a text` };
  const question = field('question');
  if (question !== undefined && typeof question !== 'string') return { problem: '"question" is not a text' };
  const listed = field('options');
  if (listed !== undefined && !isStrings(listed)) return { problem: '"options" is not a list of texts' };
  const own = styledLabel(label, labelStyle);
  const options = listed?.map((each) => styledLabel(each, labelStyle));
  if (options && !options.includes(own)) return { problem: `its label "${own}" is not among its options` };
  if (options && new Set(options).size < options.length) return { problem: 'two of its options are the same' };
  const attributes = field('attributes');
  if (attributes !== undefined && !(isRecord(attributes) && isStrings(Object.values(attributes)))) {
    return { problem: '"attributes" is not a mapping from names to texts' };
  }
  const asked = withoutImageMark(question ?? '');
  const said = field('split');
  const split = said === undefined ? splitOfName(path.basename(file)) : splitOfName(String(said));
  const id = field('id') ?? `${name}-${line}`;
  const at: SourcePosition = { file, line, col: 1 };
  return {
    id: String(id),
    label: own,
    split,
    content,
    ...(file.endsWith('.jsonl') && { at }),
    ...(asked !== '' && { question: asked }),
    ...(options !== undefined && { options }),
    ...(attributes !== undefined && { attributes: attributes as Readonly<Record<string, string>> }),
  };
}

function checkIds(images: readonly SourceImage[]): void {
  const problems = new RowProblems();
  const ids = new Set<string>();
  for (const { id, at } of images) {
    if (ids.has(id)) problems.add(new Fr1Error('DATA_ROW_INVALID', `another row has the id "${id}" too`, { at }));
    ids.add(id);
  }
  problems.throwIfAny();
}

/** @throws DATA_ROW_INVALID when two rows have the same id */
function sourceOf(images: readonly SourceImage[], { name, superCategory }: NamedSource): SourceData {
  checkIds(images);
  const labels = [...new Set(images.map(({ label }) => label))].sort();
  return { name, superCategory, classes: labels.map((label) => ({ label, groups: [] })), images };
}
