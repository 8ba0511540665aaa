/** Dotted paths such as `stages.sft.outputs.model`, `vars['odd name']`, `vars.list[0]`. */

export interface PathSegment {
  readonly name: string;
  /** Offsets into the text of the path. */
  readonly start: number;
  readonly end: number;
}

export type ParsedPath =
  | { readonly segments: readonly PathSegment[] }
  | { readonly segments?: undefined; readonly message: string; readonly start: number; readonly end: number };

/** Splits a path into its segments; anything but names, `['text']` and `[number]` is a problem with its place. */
export function parsePath(text: string): ParsedPath {
  const segments: PathSegment[] = [];
  let at = 0;
  while (at < text.length) {
    const rest = text.slice(at);
    const name = (segments.length === 0 ? /^[A-Za-z_][\w-]*/ : /^\.[\w-]+/).exec(rest)?.[0];
    if (name !== undefined) {
      const dot = segments.length === 0 ? 0 : 1;
      segments.push({ name: name.slice(dot), start: at + dot, end: at + name.length });
      at += name.length;
      continue;
    }
    const index = segments.length === 0 ? null : /^\[\s*(?:'([^']*)'|"([^"]*)"|(\d+))\s*\]/.exec(rest);
    if (index !== null) {
      const whole = index[0];
      segments.push({ name: index[1] ?? index[2] ?? index[3] ?? '', start: at, end: at + whole.length });
      at += whole.length;
      continue;
    }
    return { message: problem(rest, segments.length === 0), start: at, end: text.length };
  }
  if (segments.length === 0) return { message: 'nothing is named', start: 0, end: Math.max(1, text.length) };
  return { segments };
}

function problem(rest: string, isFirst: boolean): string {
  if (isFirst) return `a path starts with a name, not with "${rest.charAt(0)}"`;
  if (rest === '.') return 'a name is missing after the dot';
  if (rest.startsWith('[')) return `only ['text'] and [number] may stand in brackets`;
  if (rest.startsWith('(')) return 'there are no functions here';
  return `"${rest.trim().slice(0, 20)}" is no part of a path: there are no operators here`;
}
