/** Tables as aligned text. Pure. */
import type { ReportTable } from '../run/stage-api.ts';
import { oneLine } from './words.ts';

/** The table's lines: title, header, rule, rows, notes. Columns of figures are aligned to the right. */
export function tableLines(table: ReportTable): string[] {
  const columns = table.columns.map(oneLine);
  const rows = table.rows.map((row) => columns.map((_, i) => oneLine(row[i] ?? '')));
  const widths = columns.map((column, i) => Math.max(widthOf(column), ...rows.map((row) => widthOf(row[i]!))));
  const isFigures = columns.map((_, i) => rows.length > 0 && rows.every((row) => /^$|^[-+±]?[\d.]/.test(row[i]!)));
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, i) => {
        const gap = ' '.repeat(widths[i]! - widthOf(cell));
        return isFigures[i] ? gap + cell : cell + gap;
      })
      .join('  ')
      .trimEnd();
  return [
    oneLine(table.title),
    line(columns),
    widths.map((width) => '-'.repeat(width)).join('  '),
    ...rows.map(line),
    ...(table.notes ?? []).map(oneLine),
  ];
}

/** Columns that a text takes: combining marks none, East Asian wide characters and emoji two. */
export function widthOf(text: string): number {
  let width = 0;
  for (const char of text) {
    if (/\p{Mark}|\u200d/u.test(char)) continue;
    width +=
      /[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6]|\p{Emoji_Presentation}/u.test(
        char,
      )
        ? 2
        : 1;
  }
  return width;
}
