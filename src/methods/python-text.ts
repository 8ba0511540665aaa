/**
 * Text functions with Python's meaning, where JavaScript's own differ.
 *
 * Python counts U+001C-U+001F and U+0085 as white space and U+FEFF not; JavaScript does the reverse. Scores that are to
 * agree with a Python implementation go through these functions.
 *
 * @see https://docs.python.org/3/library/stdtypes.html#str.isspace
 */

const SPACE = '\\t\\n\\v\\f\\r\\x1c-\\x1f \\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000';
const SPACE_CHARACTER = new RegExp(`[${SPACE}]`);
const SPACE_RUN = new RegExp(`[${SPACE}]+`);

/** `str.isspace` of one UTF-16 unit; every white-space character of Python lies in the basic plane. */
function isSpace(unit: string): boolean {
  return SPACE_CHARACTER.test(unit);
}

/** `str.lstrip()` */
export function stripStart(text: string): string {
  let start = 0;
  while (start < text.length && isSpace(text[start]!)) start++;
  return text.slice(start);
}

/** `str.rstrip()` */
export function stripEnd(text: string): string {
  let end = text.length;
  while (end > 0 && isSpace(text[end - 1]!)) end--;
  return text.slice(0, end);
}

/** `str.strip()` */
export function strip(text: string): string {
  return stripStart(stripEnd(text));
}

/** `str.split()`: the words between runs of white space; none for blank text. */
export function splitWords(text: string): string[] {
  const stripped = strip(text);
  return stripped === '' ? [] : stripped.split(SPACE_RUN);
}

/**
 * `str.lower()`. The default Unicode mapping, the same in both languages, with final sigma and U+0130 included; the
 * locale of the machine plays no part.
 */
export function lower(text: string): string {
  return text.toLowerCase();
}

/** `str()` of a JSON scalar that stands where a label is expected. */
export function scalarText(value: string | number | boolean | null): string {
  if (value === null) return 'None';
  if (typeof value === 'boolean') return value ? 'True' : 'False';
  return String(value);
}

/** `repr()` of a list of strings: `['A', "colt's foot"]`. */
export function listRepr(items: readonly string[]): string {
  return `[${items.map(stringRepr).join(', ')}]`;
}

const NAMED_ESCAPES: Readonly<Record<string, string>> = { '\\': '\\\\', '\n': '\\n', '\r': '\\r', '\t': '\\t' };
/** What `str.isprintable` denies: controls, formats, surrogates, private use, unassigned, separators except the space. */
const UNPRINTABLE = /[\p{C}\p{Z}]/u;

/** `repr()` of a string: single quotes, unless the text holds a single quote and no double quote. */
function stringRepr(text: string): string {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  let body = '';
  for (const character of text) {
    const named = NAMED_ESCAPES[character];
    if (named !== undefined) body += named;
    else if (character === quote) body += `\\${quote}`;
    else if (character !== ' ' && UNPRINTABLE.test(character)) body += codeEscape(character.codePointAt(0)!);
    else body += character;
  }
  return `${quote}${body}${quote}`;
}

function codeEscape(code: number): string {
  const hex = code.toString(16);
  if (code < 0x100) return `\\x${hex.padStart(2, '0')}`;
  return code < 0x10000 ? `\\u${hex.padStart(4, '0')}` : `\\U${hex.padStart(8, '0')}`;
}
