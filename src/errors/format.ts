/**
 * The printed form of errors: place, code, message, code frame, hint. Pure: a frame comes from the position's own line
 * text, so that nothing is read here.
 */
import { CATALOGUE } from './catalogue.ts';
import { Fr1Error, Fr1Errors, type SourcePosition } from './fr1-error.ts';

export interface FormatOptions {
  /** ANSI colours. @default false */
  readonly colour?: boolean;
  /** Stack traces and causes, as `FR1_DEBUG=1` or higher asks for. @default false */
  readonly stack?: boolean;
}

type Environment = Readonly<Record<string, string | undefined>>;

/** `FR1_DEBUG`: 1 stack traces of errors; 2 also the longest stall of the event loop in each stage. @default 0 */
export function debugLevel(env: Environment): number {
  const level = Number(env['FR1_DEBUG'] ?? 0);
  return Number.isFinite(level) ? level : 0;
}

/** Whether `FR1_DEBUG` asks for stack traces. */
export function wantsStack(env: Environment): boolean {
  return debugLevel(env) >= 1;
}

/** The process exit code for an error that ends a command: that of the catalogue, 130 after an abort, else 1. */
export function exitCodeOf(error: unknown): number {
  if (error instanceof Fr1Error) return CATALOGUE[error.code].exit;
  if (error instanceof Fr1Errors) return Math.max(1, ...error.errors.map((each) => CATALOGUE[each.code].exit));
  if (error instanceof Error && error.name === 'AbortError') return 130;
  return 1;
}

/** The text for one error or several, without a final newline. */
export function formatError(error: unknown, options: FormatOptions = {}): string {
  const style = styles(options.colour === true);
  if (error instanceof Fr1Errors) {
    const parts = error.errors.map((each) => formatOne(each, style, options.stack === true));
    if (parts.length > 1) parts.push(style.dim(`${parts.length} errors`));
    return parts.join('\n\n');
  }
  if (error instanceof Fr1Error) return formatOne(error, style, options.stack === true);
  return formatForeign(error, style, options.stack === true);
}

function formatOne(error: Fr1Error, style: Styles, stack: boolean): string {
  const label = style.red(`error[${error.code}]`);
  const place = error.at === undefined ? '' : `${style.bold(printPlace(error.at))}  `;
  const lines = [`${place}${label}`, ...indented(error.message)];
  if (error.at !== undefined) lines.push(...codeFrame(error.at, style));
  if (error.hint !== undefined) {
    const [first, ...more] = printable(error.hint).split('\n');
    lines.push(`  ${style.cyan('hint:')} ${first}`, ...more.map((line) => `        ${line}`));
  }
  if (stack) lines.push(...stackOf(error, style));
  return lines.join('\n');
}

function formatForeign(error: unknown, style: Styles, stack: boolean): string {
  const message = error instanceof Error ? error.message || error.name : String(error);
  const lines = [style.red('error'), ...indented(message)];
  if (stack) lines.push(...stackOf(error, style));
  else lines.push(`  ${style.cyan('hint:')} this is unexpected; FR1_DEBUG=1 shows where it happened`);
  return lines.join('\n');
}

/** `file:line:col`; a place on the command line has no line. */
export function printPlace(at: SourcePosition): string {
  return at.file === COMMAND_LINE ? at.file : printable(`${at.file}:${at.line}:${at.col}`);
}

/** The `file` of positions that lie in an argument. */
export const COMMAND_LINE = 'command line';

/** Longest part of a line that a frame shows. */
const FRAME_WIDTH = 110;

function codeFrame(at: SourcePosition, style: Styles): string[] {
  if (at.lineText === undefined) return [];
  const gutter = at.file === COMMAND_LINE ? '' : String(at.line);
  const line = at.lineText.replaceAll('\t', ' ');
  const start = Math.min(Math.max(0, at.col - 1), line.length);
  const end = Math.max(start + 1, Math.min((at.endCol ?? at.col + 1) - 1, Math.max(line.length, start + 1)));
  const from = line.length > FRAME_WIDTH ? Math.max(0, Math.min(start - 40, line.length - FRAME_WIDTH)) : 0;
  const shown = printable(line.slice(from, from + FRAME_WIDTH));
  const carets = '^'.repeat(Math.max(1, Math.min(end - from, FRAME_WIDTH) - (start - from)));
  const left = from > 0 ? '…' : '';
  const right = from + FRAME_WIDTH < line.length ? '…' : '';
  return [
    `${style.dim(`${gutter.padStart(5)} |`)} ${left}${shown}${right}`,
    `${style.dim(`${' '.repeat(5)} |`)} ${' '.repeat(start - from + left.length)}${style.red(carets)}`,
  ];
}

function stackOf(error: unknown, style: Styles): string[] {
  const lines: string[] = [];
  for (let each = error, depth = 0; each instanceof Error && depth < 8; each = each.cause, depth++) {
    if (depth > 0) lines.push(style.dim(`  caused by ${printable(String(each))}`));
    const frames = (each.stack ?? '').split('\n').filter((line) => /^\s+at /.test(line));
    lines.push(...frames.map((line) => style.dim(printable(`  ${line}`))));
  }
  return lines;
}

function indented(text: string): string[] {
  return printable(text)
    .split('\n')
    .map((line) => `  ${line}`);
}

/** User text without control characters, so that a file cannot steer the terminal. */
function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is replaced.
  return text.replace(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g, '\ufffd');
}

interface Styles {
  red(text: string): string;
  cyan(text: string): string;
  bold(text: string): string;
  dim(text: string): string;
}

function styles(colour: boolean): Styles {
  const wrap = (open: number, close: number) => (text: string) =>
    colour ? `\u001b[${open}m${text}\u001b[${close}m` : text;
  return { red: wrap(31, 39), cyan: wrap(36, 39), bold: wrap(1, 22), dim: wrap(2, 22) };
}
