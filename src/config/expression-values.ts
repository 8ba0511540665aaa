/** What operators and functions of expressions compute. Pure; types are never converted in silence. */
import type { Operator } from './expression-syntax.ts';
import { describe } from './tree.ts';

/** What an operator or a function cannot do with its operands. */
export class ValueProblem extends Error {}

/** As in most languages with `&&` and `||`: false, null, 0 and the empty text count as no. */
export function isTruthy(value: unknown): boolean {
  return value !== false && value !== null && value !== undefined && value !== 0 && value !== '';
}

/** @throws ValueProblem for operands that do not compare */
export function compare(operator: Exclude<Operator, '&&' | '||'>, left: unknown, right: unknown): boolean {
  if (operator === '==' || operator === '!=') {
    if (isComposite(left) || isComposite(right)) {
      throw new ValueProblem(`${operator} compares single values, not ${describe(isComposite(left) ? left : right)}`);
    }
    if (left !== null && right !== null && typeof left !== typeof right) {
      throw new ValueProblem(`${describe(left)} and ${describe(right)} can never be equal: their types differ`);
    }
    return (left === right) === (operator === '==');
  }
  if (typeof left !== 'number' || typeof right !== 'number') {
    const wrong = typeof left === 'number' ? right : left;
    throw new ValueProblem(`${operator} compares numbers, not ${describe(wrong)}`);
  }
  switch (operator) {
    case '<':
      return left < right;
    case '<=':
      return left <= right;
    case '>':
      return left > right;
    case '>=':
      return left >= right;
    default:
      throw new TypeError(`unknown operator ${operator satisfies never}`);
  }
}

interface FunctionSpec {
  readonly minArgs: number;
  readonly maxArgs: number;
  readonly form: string;
  call(args: readonly unknown[]): unknown;
}

export const FUNCTIONS: Readonly<Record<string, FunctionSpec>> = {
  contains: {
    minArgs: 2,
    maxArgs: 2,
    form: 'contains(list or text, value)',
    call: ([where, what]) => {
      if (Array.isArray(where)) return where.includes(what);
      return text('contains', where).includes(text('contains', what));
    },
  },
  startsWith: {
    minArgs: 2,
    maxArgs: 2,
    form: 'startsWith(text, beginning)',
    call: ([whole, part]) => text('startsWith', whole).startsWith(text('startsWith', part)),
  },
  endsWith: {
    minArgs: 2,
    maxArgs: 2,
    form: 'endsWith(text, end)',
    call: ([whole, part]) => text('endsWith', whole).endsWith(text('endsWith', part)),
  },
  format: {
    minArgs: 1,
    maxArgs: 20,
    form: "format('{0} of {1}', value, value)",
    call: ([pattern, ...values]) =>
      text('format', pattern).replace(/\{(\d+)\}/g, (_, digits: string) => {
        const value = values[Number(digits)];
        if (value === undefined || isComposite(value)) throw new ValueProblem(`format has no text for {${digits}}`);
        return String(value);
      }),
  },
  join: {
    minArgs: 1,
    maxArgs: 2,
    form: "join(list, ', ')",
    call: ([list, separator = ',']) => {
      if (!Array.isArray(list) || list.some(isComposite)) throw new ValueProblem('join takes a list of single values');
      return list.join(text('join', separator));
    },
  },
};

function text(name: string, value: unknown): string {
  if (typeof value !== 'string') throw new ValueProblem(`${name} takes text, not ${describe(value)}`);
  return value;
}

function isComposite(value: unknown): boolean {
  return value !== null && typeof value === 'object';
}
