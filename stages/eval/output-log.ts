/** The model's outputs so far, in a file that survives a crash. */
import { existsSync } from 'node:fs';
import { open, readFile, truncate } from 'node:fs/promises';
import path from 'node:path';

export interface FinishedOutput {
  readonly output: string;
  readonly finishReason: 'stop' | 'length';
}

interface LoggedOutput extends FinishedOutput {
  readonly key: string;
}

/**
 * A file of one line per output, in the order of the items. Whole batches are appended; on opening, a batch that was
 * only partly written is cut off.
 */
export class OutputLog {
  readonly #file: string;
  readonly #keys: readonly string[];
  readonly #outputs: FinishedOutput[];

  private constructor(file: string, keys: readonly string[], outputs: FinishedOutput[]) {
    this.#file = file;
    this.#keys = keys;
    this.#outputs = outputs;
  }

  /**
   * The log in a state folder. Lines are kept up to the last whole batch, and only as far as they belong to the items
   * with these keys.
   */
  static async open(stateFolder: string, keys: readonly string[], batchSize: number): Promise<OutputLog> {
    const file = path.join(stateFolder, 'outputs.jsonl');
    if (!existsSync(file)) return new OutputLog(file, keys, []);
    const text = await readFile(file, 'utf8');
    const lines = text.split('\n').slice(0, -1);
    const intact: LoggedOutput[] = [];
    for (const line of lines) {
      const logged = parse(line);
      if (logged === null || logged.key !== keys[intact.length]) break;
      intact.push(logged);
    }
    const whole = intact.length === keys.length ? intact.length : intact.length - (intact.length % batchSize);
    const kept = lines.slice(0, whole).reduce((sum, line) => sum + Buffer.byteLength(line) + 1, 0);
    await truncate(file, kept);
    const outputs = intact.slice(0, whole).map(({ output, finishReason }) => ({ output, finishReason }));
    return new OutputLog(file, keys, outputs);
  }

  get outputs(): readonly FinishedOutput[] {
    return this.#outputs;
  }

  /** Adds the outputs of the next items. */
  async append(outputs: readonly FinishedOutput[]): Promise<void> {
    const first = this.#outputs.length;
    const lines = outputs.map((output, index) => `${JSON.stringify({ key: this.#keys[first + index], ...output })}\n`);
    const handle = await open(this.#file, 'a');
    try {
      await handle.writeFile(lines.join(''));
      await handle.datasync();
    } finally {
      await handle.close();
    }
    this.#outputs.push(...outputs);
  }
}

function parse(line: string): LoggedOutput | null {
  try {
    const value = JSON.parse(line) as LoggedOutput;
    return typeof value.key === 'string' && typeof value.output === 'string' ? value : null;
  } catch {
    // A line that the crash cut short; it and what follows is generated again.
    return null;
  }
}
