/**
 * Dimensions of a tensor: a number, or a polynomial in named sizes such as `B*T` or `P+1`, in one canonical spelling, so
 * that equal dimensions are equal strings.
 */
import { Fr1Error } from '../../errors/fr1-error.ts';

export type Dim = number | string;
export type Shape = readonly Dim[];

/** monomial (sorted symbols joined by `*`, '' for the constant) -> coefficient */
type Polynomial = ReadonlyMap<string, number>;

const parsed = new Map<string, Polynomial>();

function parse(dim: Dim): Polynomial {
  if (typeof dim === 'number') return new Map([['', dim]]);
  const known = parsed.get(dim);
  if (known) return known;
  const terms = new Map<string, number>();
  for (const term of dim.split('+')) {
    let coefficient = 1;
    const symbols: string[] = [];
    for (const factor of term.split('*')) {
      if (/^-?\d+$/.test(factor)) coefficient *= Number(factor);
      else symbols.push(factor);
    }
    const monomial = symbols.sort().join('*');
    terms.set(monomial, (terms.get(monomial) ?? 0) + coefficient);
  }
  parsed.set(dim, terms);
  return terms;
}

function format(terms: Polynomial): Dim {
  const kept = [...terms].filter(([, coefficient]) => coefficient !== 0).sort(([a], [b]) => (a < b ? 1 : -1));
  if (kept.length === 0) return 0;
  if (kept.length === 1 && kept[0]![0] === '') return kept[0]![1];
  return kept
    .map(([monomial, coefficient]) =>
      monomial === '' ? String(coefficient) : coefficient === 1 ? monomial : `${coefficient}*${monomial}`,
    )
    .join('+');
}

export function addDims(a: Dim, b: Dim): Dim {
  if (typeof a === 'number' && typeof b === 'number') return a + b;
  const sum = new Map(parse(a));
  for (const [monomial, coefficient] of parse(b)) sum.set(monomial, (sum.get(monomial) ?? 0) + coefficient);
  return format(sum);
}

export function multiplyDims(...dims: readonly Dim[]): Dim {
  let product: Polynomial = new Map([['', 1]]);
  for (const dim of dims) {
    const next = new Map<string, number>();
    for (const [a, ca] of product) {
      for (const [b, cb] of parse(dim)) {
        const monomial = [...(a ? a.split('*') : []), ...(b ? b.split('*') : [])].sort().join('*');
        next.set(monomial, (next.get(monomial) ?? 0) + ca * cb);
      }
    }
    product = next;
  }
  return format(product);
}

/** Value of a dimension for the given sizes. @throws SHAPE_MISMATCH when a size is missing */
export function evaluateDim(dim: Dim, sizes: ReadonlyMap<string, number>): number {
  if (typeof dim === 'number') return dim;
  let sum = 0;
  for (const [monomial, coefficient] of parse(dim)) {
    let product = coefficient;
    for (const symbol of monomial ? monomial.split('*') : []) {
      const size = sizes.get(symbol);
      if (size === undefined) throw new Fr1Error('SHAPE_MISMATCH', `the size of dimension ${symbol} is not known`);
      product *= size;
    }
    sum += product;
  }
  return sum;
}

/** The one unknown size of a product such as `4*B*T`, from the product's value; null when there is not exactly one. */
export function solveDim(dim: Dim, value: number, sizes: ReadonlyMap<string, number>): [string, number] | null {
  if (typeof dim === 'number') return null;
  const terms = [...parse(dim)];
  if (terms.length !== 1) return null;
  const [monomial] = terms[0]!;
  let [, coefficient] = terms[0]!;
  const unknown: string[] = [];
  for (const symbol of monomial.split('*')) {
    const size = sizes.get(symbol);
    if (size === undefined) unknown.push(symbol);
    else coefficient *= size;
  }
  return unknown.length === 1 ? [unknown[0]!, value / coefficient] : null;
}

/** The named sizes that shapes tell, each given with the numbers that it stands for. */
export function solveSizes(
  shapes: readonly (readonly [shape: Shape, sizes: readonly number[]])[],
): Map<string, number> {
  const sizes = new Map<string, number>();
  for (let found = -1; found !== sizes.size; ) {
    found = sizes.size;
    for (const [shape, numbers] of shapes) {
      shape.forEach((dim, axis) => {
        const solved = solveDim(dim, numbers[axis]!, sizes);
        if (solved) sizes.set(...solved);
      });
    }
  }
  return sizes;
}

export function isSymbol(dim: Dim): dim is string {
  return typeof dim === 'string' && !/[*+]/.test(dim);
}

export function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((dim, i) => dim === b[i]);
}

export function formatShape(shape: Shape): string {
  return `[${shape.join(', ')}]`;
}
