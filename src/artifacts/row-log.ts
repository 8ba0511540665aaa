/** Results of a stage so far, one per item, in a file that survives a crash. */
import { existsSync } from 'node:fs';
import { open, readFile, truncate } from 'node:fs/promises';
import path from 'node:path';
import { isRecord } from './json-lines.ts';

interface LoggedRow<Row> {
  readonly key: string;
  readonly row: Row;
}

/**
 * A file of one line per row, in the order of the items. Whole batches are appended; on opening, a batch that was
 * only partly written is cut off.
 */
export class RowLog<Row extends object> {
  readonly #file: string;
  readonly #keys: readonly string[];
  readonly #rows: Row[];

  private constructor(file: string, keys: readonly string[], rows: Row[]) {
    this.#file = file;
    this.#keys = keys;
    this.#rows = rows;
  }

  /**
   * The log in a state folder. Lines are kept up to the last whole batch, and only as far as they belong to the items
   * with these keys.
   *
   * @param parse the row of a line, null for a line that holds none
   */
  static async open<Row extends object>(
    stateFolder: string,
    keys: readonly string[],
    batchSize: number,
    parse: (line: Readonly<Record<string, unknown>>) => Row | null,
  ): Promise<RowLog<Row>> {
    const file = path.join(stateFolder, 'outputs.jsonl');
    if (!existsSync(file)) return new RowLog<Row>(file, keys, []);
    const text = await readFile(file, 'utf8');
    const lines = text.split('\n').slice(0, -1);
    const intact: LoggedRow<Row>[] = [];
    for (const line of lines) {
      const logged = loggedRow(line, parse);
      if (logged === null || logged.key !== keys[intact.length]) break;
      intact.push(logged);
    }
    const whole = intact.length === keys.length ? intact.length : intact.length - (intact.length % batchSize);
    const kept = lines.slice(0, whole).reduce((sum, line) => sum + Buffer.byteLength(line) + 1, 0);
    await truncate(file, kept);
    return new RowLog<Row>(
      file,
      keys,
      intact.slice(0, whole).map(({ row }) => row),
    );
  }

  get rows(): readonly Row[] {
    return this.#rows;
  }

  /** Adds the rows of the next items. */
  async append(rows: readonly Row[]): Promise<void> {
    const first = this.#rows.length;
    const lines = rows.map((row, index) => `${JSON.stringify({ key: this.#keys[first + index], ...row })}\n`);
    const handle = await open(this.#file, 'a');
    try {
      await handle.writeFile(lines.join(''));
      await handle.datasync();
    } finally {
      await handle.close();
    }
    this.#rows.push(...rows);
  }
}

function loggedRow<Row extends object>(
  line: string,
  parse: (line: Readonly<Record<string, unknown>>) => Row | null,
): LoggedRow<Row> | null {
  try {
    const value: unknown = JSON.parse(line);
    if (!isRecord(value) || typeof value['key'] !== 'string') return null;
    const row = parse(value);
    return row && { key: value['key'], row };
  } catch {
    // A line that the crash cut short; it and what follows is made again.
    return null;
  }
}
