/**
 * The grammar of `${{ }}`: paths, literals, comparisons, `!`, `&&`, `||`, and calls by name. There is no arithmetic, no
 * assignment and no way to name anything but what the resolver offers.
 *
 *   or := and ('||' and)*                      comparison := unary (('<' | '<=' | '>' | '>=') unary)*
 *   and := equality ('&&' equality)*           unary      := '!' unary | primary
 *   equality := comparison (('==' | '!=') comparison)*
 *   primary := number | 'text' | "text" | true | false | null | name '(' or,* ')' | '(' or ')' | path
 *   path := name ('.' name | '[' or ']')*
 */

interface Span {
  /** Offsets into the text of the expression. */
  readonly start: number;
  readonly end: number;
}

export type Literal = string | number | boolean | null;
export type Operator = '==' | '!=' | '<' | '<=' | '>' | '>=' | '&&' | '||';

export type PathStep = Span & ({ readonly name: string } | { readonly index: Expr });

export interface PathExpr extends Span {
  readonly kind: 'path';
  readonly root: string;
  /** End of the root's name. */
  readonly rootEnd: number;
  readonly steps: readonly PathStep[];
}

export type Expr = Span &
  (
    | { readonly kind: 'literal'; readonly value: Literal }
    | PathExpr
    | { readonly kind: 'not'; readonly operand: Expr }
    | { readonly kind: 'binary'; readonly operator: Operator; readonly left: Expr; readonly right: Expr }
    | { readonly kind: 'call'; readonly name: string; readonly nameEnd: number; readonly args: readonly Expr[] }
  );

export type ParsedExpression =
  | { readonly expr: Expr }
  | { readonly expr?: undefined; readonly message: string; readonly start: number; readonly end: number };

/** Parentheses, brackets and `!` may be nested so deep. */
const MAX_DEPTH = 50;
const MAX_LENGTH = 4_000;

const parsed = new Map<string, ParsedExpression>();

/** Parses the text between the braces; cells of a matrix share texts, so results are kept. */
export function parseExpression(text: string): ParsedExpression {
  let result = parsed.get(text);
  if (result === undefined) {
    if (parsed.size > 10_000) parsed.clear();
    result = new Parser(text).parse();
    parsed.set(text, result);
  }
  return result;
}

class SyntaxProblem extends Error {
  readonly start: number;
  readonly end: number;

  constructor(message: string, start: number, end: number) {
    super(message);
    this.start = start;
    this.end = end;
  }
}

const LEVELS: readonly (readonly Operator[])[] = [['||'], ['&&'], ['==', '!='], ['<=', '>=', '<', '>']];
const WORDS: Readonly<Record<string, Literal>> = { true: true, false: false, null: null };

class Parser {
  readonly #text: string;
  #at = 0;
  #depth = 0;

  constructor(text: string) {
    this.#text = text;
  }

  parse(): ParsedExpression {
    try {
      if (this.#text.length > MAX_LENGTH) this.#fail(`an expression has at most ${MAX_LENGTH} characters`, 0);
      if (this.#text.trim() === '') this.#fail('nothing is named', 0, Math.max(1, this.#text.length));
      const expr = this.#operators(0);
      this.#skipSpace();
      if (this.#at < this.#text.length) this.#fail(this.#unexpected(), this.#at);
      return { expr };
    } catch (problem) {
      if (!(problem instanceof SyntaxProblem)) throw problem;
      return { message: problem.message, start: problem.start, end: problem.end };
    }
  }

  #operators(level: number): Expr {
    const operators = LEVELS[level];
    if (operators === undefined) return this.#unary();
    let left = this.#operators(level + 1);
    for (let operator = this.#take(operators); operator !== undefined; operator = this.#take(operators)) {
      const right = this.#operators(level + 1);
      left = { kind: 'binary', operator: operator as Operator, left, right, start: left.start, end: right.end };
    }
    return left;
  }

  #unary(): Expr {
    this.#skipSpace();
    const start = this.#at;
    if (this.#text[start] !== '!' || this.#text[start + 1] === '=') return this.#primary();
    this.#at++;
    const operand = this.#nested(() => this.#unary());
    return { kind: 'not', operand, start, end: operand.end };
  }

  #primary(): Expr {
    this.#skipSpace();
    const start = this.#at;
    const rest = this.#text.slice(start);
    if (rest.startsWith('(')) {
      this.#at++;
      const inner = this.#nested(() => this.#operators(0));
      this.#expect(')', start);
      return { ...inner, start, end: this.#at };
    }
    const number = /^-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.])/.exec(rest)?.[0];
    if (number !== undefined) {
      this.#at += number.length;
      return { kind: 'literal', value: Number(number), start, end: this.#at };
    }
    const text = /^'(?:[^']|'')*'|^"[^"]*"/.exec(rest)?.[0];
    if (text !== undefined) {
      this.#at += text.length;
      const value = text.startsWith("'") ? text.slice(1, -1).replaceAll("''", "'") : text.slice(1, -1);
      return { kind: 'literal', value, start, end: this.#at };
    }
    const name = /^[A-Za-z_][\w-]*/.exec(rest)?.[0];
    if (name === undefined) this.#fail(this.#unexpected(), start);
    this.#at += name.length;
    if (this.#text[this.#at] === '(') return this.#call(name, start);
    if (Object.hasOwn(WORDS, name)) return { kind: 'literal', value: WORDS[name]!, start, end: this.#at };
    return this.#path(name, start);
  }

  #call(name: string, start: number): Expr {
    const nameEnd = this.#at++;
    const args: Expr[] = [];
    this.#skipSpace();
    if (this.#text[this.#at] !== ')') {
      do args.push(this.#nested(() => this.#operators(0)));
      while (this.#take([',']) !== undefined);
    }
    this.#expect(')', nameEnd);
    return { kind: 'call', name, nameEnd, args, start, end: this.#at };
  }

  #path(root: string, start: number): PathExpr {
    const rootEnd = this.#at;
    const steps: PathStep[] = [];
    for (;;) {
      const open = this.#at;
      if (this.#text[open] === '.') {
        const name = /^[\w-]+/.exec(this.#text.slice(open + 1))?.[0];
        if (name === undefined) this.#fail('a name is missing after the dot', open);
        this.#at += 1 + name.length;
        steps.push({ name, start: open + 1, end: this.#at });
      } else if (this.#text[open] === '[') {
        this.#at++;
        const index = this.#nested(() => this.#operators(0));
        this.#expect(']', open);
        const isName = index.kind === 'literal' && (typeof index.value === 'string' || typeof index.value === 'number');
        const span = { start: open, end: this.#at };
        steps.push(isName ? { name: String(index.value), ...span } : { index, ...span });
      } else {
        return { kind: 'path', root, rootEnd, steps, start, end: this.#at };
      }
    }
  }

  #nested<T>(parse: () => T): T {
    if (++this.#depth > MAX_DEPTH) this.#fail(`an expression is nested at most ${MAX_DEPTH} deep`, this.#at);
    const result = parse();
    this.#depth--;
    return result;
  }

  #take(words: readonly string[]): string | undefined {
    this.#skipSpace();
    const found = words.find((word) => this.#text.startsWith(word, this.#at));
    if (found !== undefined) this.#at += found.length;
    return found;
  }

  #expect(close: string, open: number): void {
    this.#skipSpace();
    if (this.#text[this.#at] === close) this.#at++;
    else if (this.#at >= this.#text.length) this.#fail(`the ${this.#text[open]} is not closed`, open, open + 1);
    else this.#fail(this.#unexpected(), this.#at);
  }

  #skipSpace(): void {
    while (/\s/.test(this.#text[this.#at] ?? '')) this.#at++;
  }

  #unexpected(): string {
    const rest = this.#text.slice(this.#at).trimStart();
    if (rest === '') return 'the expression ends too soon';
    if (/^['"]/.test(rest)) return 'the text has no closing quote';
    if (/^[+*/%-]/.test(rest)) return `there is no arithmetic in expressions, so "${rest[0]}" cannot stand here`;
    if (rest.startsWith('=')) return 'write == to compare';
    if (/^[&|]/.test(rest)) return `write ${rest[0]}${rest[0]} for ${rest[0] === '&' ? 'and' : 'or'}`;
    return `"${rest.slice(0, 20)}" cannot stand here`;
  }

  #fail(message: string, start: number, end = Math.max(start + 1, this.#text.length)): never {
    throw new SyntaxProblem(message, start, end);
  }
}
