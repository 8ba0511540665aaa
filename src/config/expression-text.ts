/** Finds the expressions in a text of the document, and the place of each of their parts in the user's file. */
import type { SourcePosition } from '../errors/fr1-error.ts';
import { type Expr, parseExpression } from './expression-syntax.ts';
import type { ScalarNode } from './tree.ts';

export interface PlacedExpression {
  /** Offsets of `${{ ... }}` in the text. */
  readonly start: number;
  readonly end: number;
  readonly expr: Expr;
  /** As written, without braces and surrounding space. */
  readonly text: string;
  /** Position of a span of the expression. */
  at(span: { readonly start: number; readonly end: number }): SourcePosition;
}

export interface SyntaxFault {
  readonly message: string;
  readonly at: SourcePosition;
  readonly hint?: string;
}

const FORM_HINT = 'an expression is a path such as vars.name or stages.name.outputs.name, or compares such values';

/** Every `${{ }}` of the text, or the first fault. */
export function expressionsIn(node: ScalarNode, text: string): readonly PlacedExpression[] | SyntaxFault {
  const found: PlacedExpression[] = [];
  for (let start = text.indexOf('${{'), nth = 0; start !== -1; nth++) {
    const close = closingBraces(text, start + 3);
    const end = close === -1 ? text.length : close + 2;
    const place = spans(node, text.slice(start, end), nth);
    if (close === -1) return { message: 'the expression has no closing }}', at: place(0, end - start) };
    const inner = text.slice(start + 3, close);
    const indent = 3 + inner.length - inner.trimStart().length;
    const expression = placed(inner.trim(), (from, to) => place(indent + from, indent + to), start, end);
    if ('message' in expression) return expression;
    found.push(expression);
    start = text.indexOf('${{', end);
  }
  return found;
}

/** A text that is an expression without braces, as `if` takes it. */
export function bareExpression(node: ScalarNode, text: string): PlacedExpression | SyntaxFault {
  const { written } = node;
  const raw = written?.source.text.slice(written.start, written.end) ?? '';
  const open = raw.indexOf(text);
  const place = (start: number, end: number) =>
    written === undefined || open === -1
      ? node.at
      : written.source.position(written.start + open + start, written.start + open + end);
  const indent = text.length - text.trimStart().length;
  return placed(text.trim(), (from, to) => place(indent + from, indent + to), 0, text.length);
}

function placed(
  text: string,
  place: (start: number, end: number) => SourcePosition,
  start: number,
  end: number,
): PlacedExpression | SyntaxFault {
  const parsed = parseExpression(text);
  if (parsed.expr === undefined) {
    return { message: parsed.message, at: place(parsed.start, parsed.end), hint: FORM_HINT };
  }
  return { start, end, expr: parsed.expr, text, at: (span) => place(span.start, span.end) };
}

/** Offset of the `}}` that ends the expression; braces in quoted text do not. */
function closingBraces(text: string, from: number): number {
  let quote = '';
  for (let at = from; at < text.length; at++) {
    const char = text[at]!;
    if (quote !== '') quote = char === quote ? '' : quote;
    else if (char === "'" || char === '"') quote = char;
    else if (char === '}' && text[at + 1] === '}') return at;
  }
  // A quote that stays open is told as such by the parser.
  return quote === '' ? -1 : text.indexOf('}}', from);
}

/** Maps offsets inside the nth expression of a text to positions in the file. */
function spans(node: ScalarNode, expression: string, nth: number) {
  const { written } = node;
  const raw = written?.source.text.slice(written.start, written.end) ?? '';
  let open = -1;
  for (let i = 0; i <= nth; i++) open = raw.indexOf('${{', open + 1);
  const isVerbatim = open !== -1 && raw.startsWith(expression, open);
  return (from: number, to: number): SourcePosition => {
    if (written === undefined || open === -1) return node.at;
    const base = written.start + open;
    return isVerbatim ? written.source.position(base + from, base + to) : written.source.position(base, base + 3);
  };
}
