/** A text with a name: turns offsets into positions. */
import type { SourcePosition } from '../errors/fr1-error.ts';

export class Source {
  readonly file: string;
  readonly text: string;
  /** Absolute folder that relative paths in the text start at; the command line has none. */
  readonly folder: string | undefined;
  readonly #lineStarts: readonly number[];

  constructor(file: string, text: string, folder?: string) {
    this.file = file;
    this.folder = folder;
    this.text = text;
    const starts = [0];
    for (let at = text.indexOf('\n'); at !== -1; at = text.indexOf('\n', at + 1)) starts.push(at + 1);
    this.#lineStarts = starts;
  }

  /** The position of `text[start, end)`; a span over several lines ends with its first. */
  position(start: number, end = start + 1): SourcePosition {
    const line = this.lineOf(start);
    const lineStart = this.#lineStarts[line - 1]!;
    const lineText = this.lineText(line);
    const col = Math.min(start - lineStart, lineText.length) + 1;
    const endCol = Math.max(col + 1, Math.min(end - lineStart, lineText.length) + 1);
    return { file: this.file, line, col, endCol, lineText };
  }

  /** Number of the line, from 1, that holds the offset. */
  lineOf(offset: number): number {
    let low = 0;
    let high = this.#lineStarts.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.#lineStarts[middle]! <= offset) low = middle;
      else high = middle - 1;
    }
    return low + 1;
  }

  lineText(line: number): string {
    const start = this.#lineStarts[line - 1] ?? this.text.length;
    const next = this.#lineStarts[line];
    return this.text.slice(start, next === undefined ? undefined : next - 1).replace(/\r$/, '');
  }
}
