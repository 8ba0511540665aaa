/** A Parquet file as rows, with images as Hugging Face's datasets store them: a struct of `bytes` and `path`. */
import type { AsyncBuffer, FileMetaData } from 'hyparquet';
import { isRecord } from '../artifacts/json-lines.ts';
import { Fr1Error } from '../errors/fr1-error.ts';

export type ParquetRow = Readonly<Record<string, unknown>>;

export class ParquetFile {
  readonly path: string;
  readonly rowCount: number;
  /** Names of the columns of the top level. */
  readonly columns: readonly string[];
  readonly #file: AsyncBuffer;
  readonly #metadata: FileMetaData;
  #group: { readonly key: string; readonly rows: Promise<ParquetRow[]> } | undefined;

  private constructor(path: string, file: AsyncBuffer, metadata: FileMetaData, columns: readonly string[]) {
    this.path = path;
    this.columns = columns;
    this.#file = file;
    this.#metadata = metadata;
    this.rowCount = Number(metadata.num_rows);
  }

  /** @throws DATA_UNREADABLE when the file is missing or is not Parquet */
  static async open(path: string): Promise<ParquetFile> {
    try {
      const { asyncBufferFromFile, parquetMetadataAsync, parquetSchema } = await import('hyparquet');
      const file = await asyncBufferFromFile(path);
      const metadata = await parquetMetadataAsync(file);
      const columns = parquetSchema(metadata).children.map(({ element }) => element.name);
      return new ParquetFile(path, file, metadata, columns);
    } catch (cause) {
      throw unreadable(path, cause);
    }
  }

  /** Names of a ClassLabel column by number, where the file carries Hugging Face's description of its features. */
  classNames(column: string): readonly string[] | undefined {
    const text = this.#metadata.key_value_metadata?.find(({ key }) => key === 'huggingface')?.value;
    if (text === undefined) return undefined;
    const feature = ['info', 'features', column].reduce<unknown>(
      (value, key) => (isRecord(value) ? value[key] : undefined),
      JSON.parse(text),
    );
    const names = isRecord(feature) ? feature['names'] : undefined;
    return Array.isArray(names) ? names.map(String) : undefined;
  }

  /** Every row with these columns only. @throws DATA_UNREADABLE */
  async rows(columns: readonly string[]): Promise<ParquetRow[]> {
    return this.#read(columns, 0, this.rowCount);
  }

  /** One row; its whole row group is read and kept until a row of another is asked for. @throws DATA_UNREADABLE */
  async row(index: number, columns: readonly string[]): Promise<ParquetRow> {
    let start = 0;
    for (const group of this.#metadata.row_groups) {
      const end = start + Number(group.num_rows);
      if (index < end) {
        const key = `${start} ${columns.join(' ')}`;
        if (this.#group?.key !== key) this.#group = { key, rows: this.#read(columns, start, end) };
        return (await this.#group.rows)[index - start]!;
      }
      start = end;
    }
    throw new RangeError(`${this.path} has ${this.rowCount} rows, not ${index + 1}`);
  }

  async #read(columns: readonly string[], rowStart: number, rowEnd: number): Promise<ParquetRow[]> {
    try {
      const [{ parquetReadObjects }, { compressors }] = await Promise.all([
        import('hyparquet'),
        import('hyparquet-compressors'),
      ]);
      return await parquetReadObjects({
        file: this.#file,
        metadata: this.#metadata,
        columns: [...columns],
        rowStart,
        rowEnd,
        compressors,
        utf8: false,
      });
    } catch (cause) {
      throw unreadable(this.path, cause);
    }
  }
}

/** The bytes of an image cell, or of the first image of a list of them; undefined where there are none. */
export function imageBytes(cell: unknown): Uint8Array | undefined {
  const first: unknown = Array.isArray(cell) ? cell[0] : cell;
  if (first instanceof Uint8Array) return first;
  const bytes = isRecord(first) ? first['bytes'] : undefined;
  return bytes instanceof Uint8Array ? bytes : undefined;
}

/** Images in the cell: 1 for a single image. */
export function imageCount(cell: unknown): number {
  return Array.isArray(cell) ? cell.length : cell === null || cell === undefined ? 0 : 1;
}

function unreadable(path: string, cause: unknown): Fr1Error {
  return new Fr1Error('DATA_UNREADABLE', `${path} cannot be read as Parquet: ${(cause as Error).message}`, {
    hint: 'download the file again',
    cause,
  });
}
